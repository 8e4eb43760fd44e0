//! The load's HTTP interface: a scenario reads and ends the load by it, through the API server's proxy.
//!
//! `GET /report`; `POST /mark` measures gaps from here on only; `POST /stop` ends the load and reads everything back,
//! also from the client URLs in its body, a JSON list (in a query the proxy would escape them). All answer at once with
//! the report; it says `stopped` when everything is read back.

use crate::load::drive::{Load, Plan};
use anyhow::{Context, Result, anyhow};
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

/// A list of nine URLs is far below this.
const BODY_BYTES_MAX: usize = 64 * 1024;

/// Runs the load and serves until the process is ended.
pub async fn serve(plan: Plan, listen: SocketAddr) -> Result<()> {
    let listener = TcpListener::bind(listen).await.with_context(|| format!("listening on {listen}"))?;
    let (load, tasks) = Load::start(plan)?;
    let desk = Arc::new(Desk { load, running: Mutex::new(Some(tasks)) });
    loop {
        let (stream, _) = listener.accept().await.context("accepting a connection")?;
        let desk = desk.clone();
        let service = service_fn(move |request| {
            let desk = desk.clone();
            async move { Ok::<_, Infallible>(desk.answer(request).await) }
        });
        let connection = hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .serve_connection(TokioIo::new(stream), service);
        // It does not matter here when a client goes away.
        tokio::spawn(async move { drop(connection.await) });
    }
}

struct Desk {
    load: Load,
    /// The writers and readers, until the load was told to stop.
    running: Mutex<Option<JoinSet<()>>>,
}

impl Desk {
    async fn answer(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let (head, body) = request.into_parts();
        match (&head.method, head.uri.path()) {
            (&Method::GET, "/report") => {}
            (&Method::POST, "/mark") => self.load.mark(),
            (&Method::POST, "/stop") => match urls(body).await {
                Ok(also) => self.stop(also),
                Err(error) => return response(StatusCode::BAD_REQUEST, format!("{error:#}\n").into()),
            },
            (_, path) => {
                let text = format!("{path} is not one of GET /report, POST /mark, POST /stop\n");
                return response(StatusCode::NOT_FOUND, text.into());
            }
        }
        match serde_json::to_vec(&self.load.report()) {
            Ok(json) => response(StatusCode::OK, json.into()),
            Err(error) => response(StatusCode::INTERNAL_SERVER_ERROR, error.to_string().into()),
        }
    }

    /// Stops the load once; a second call changes nothing.
    fn stop(&self, also: Vec<String>) {
        self.load.stop();
        if let Some(tasks) = self.running.lock().unwrap_or_else(PoisonError::into_inner).take() {
            let load = self.load.clone();
            tokio::spawn(async move { load.read_back(tasks, also).await });
        }
    }
}

/// The further URLs from which everything is to be read back.
async fn urls(body: Incoming) -> Result<Vec<String>> {
    let body =
        Limited::new(body, BODY_BYTES_MAX).collect().await.map_err(|error| anyhow!("reading the body: {error}"))?;
    serde_json::from_slice(&body.to_bytes()).context("the body is not a JSON list of URLs")
}

fn response(status: StatusCode, body: Bytes) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    response
}
