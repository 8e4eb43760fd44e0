//! The load's own HTTP: how a scenario looks at it and ends it, through the API server's proxy.
//!
//! `GET /report`; `POST /mark` measures gaps anew; `POST /stop?also=URL,URL` ends it and reads everything back, from those
//! client URLs too. All answer at once with the report; it says `stopped` when the reading back is done.

use crate::load::drive::{Load, Plan};
use anyhow::{Context, Result};
use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

/// Runs the load and serves until the process is ended.
pub async fn serve(plan: Plan, listen: SocketAddr) -> Result<()> {
    let listener = TcpListener::bind(listen).await.with_context(|| format!("listening on {listen}"))?;
    let (load, tasks) = Load::start(plan)?;
    let desk = Arc::new(Desk { load, running: Mutex::new(Some(tasks)) });
    loop {
        let (stream, _) = listener.accept().await.context("accepting a connection")?;
        let desk = desk.clone();
        let service = service_fn(move |request| {
            let answer = desk.answer(&request);
            async move { Ok::<_, Infallible>(answer) }
        });
        let connection = hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .serve_connection(TokioIo::new(stream), service);
        // A client that goes away is none of our business.
        tokio::spawn(async move { drop(connection.await) });
    }
}

struct Desk {
    load: Load,
    /// Until it was told to stop.
    running: Mutex<Option<JoinSet<()>>>,
}

impl Desk {
    fn answer(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        match (request.method(), request.uri().path()) {
            (&Method::GET, "/report") => {}
            (&Method::POST, "/mark") => self.load.mark(),
            (&Method::POST, "/stop") => self.stop(also(request.uri().query())),
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

    /// Once; a second call changes nothing.
    fn stop(&self, also: Vec<String>) {
        self.load.stop();
        if let Some(tasks) = self.running.lock().unwrap_or_else(PoisonError::into_inner).take() {
            let load = self.load.clone();
            tokio::spawn(async move { load.read_back(tasks, also).await });
        }
    }
}

/// The URLs of `also=`; they need no escapes.
fn also(query: Option<&str>) -> Vec<String> {
    let list = query.and_then(|query| query.strip_prefix("also=")).unwrap_or_default();
    list.split(',').filter(|url| !url.is_empty()).map(str::to_string).collect()
}

fn response(status: StatusCode, body: Bytes) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    response
}

#[cfg(test)]
mod tests {
    use super::also;

    #[test]
    fn further_urls_are_a_list() {
        assert_eq!(also(Some("also=http://a:1,http://b:2")), ["http://a:1", "http://b:2"]);
        assert_eq!(also(None), Vec::<String>::new());
        assert_eq!(also(Some("also=")), Vec::<String>::new());
    }
}
