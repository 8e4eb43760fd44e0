//! The HTTP API v1: one thin layer over [`Node`], without logic of its own.
//!
//! ```text
//!   server   connections under limits
//!     front  route table -> router; size, Host and Origin, token, body, metrics
//!       call   the request as one `Call`, or what is wrong with it          PURE
//!         kv, admin, health   one call of the node, one answer
//!     errors   why a call has no good answer, as problem+json               PURE
//!     unread   what is said where no request could be read
//! ```
#![allow(clippy::result_large_err, reason = "a problem is moved a few times in a request that has failed anyway")]

pub mod admin;
pub mod body;
pub mod call;
pub mod condition;
pub mod errors;
pub mod front;
pub mod health;
pub mod hosts;
pub mod kv;
pub mod openapi;
pub mod query;
pub mod routes;
#[cfg(test)]
mod samples;
mod schemas;
pub mod server;
pub mod unread;

use crate::handle::Node;
use crate::metrics::Metrics;
use crate::token::TokenFile;
use axum::body::Body;
use axum::http::{HeaderValue, header};
use axum::response::Response;
use body::Budget;
use call::Call;
use front::{Entrance, Front, Meters};
use hosts::Hosts;
use raftkv_api::Problem;
use raftkv_core::limits;
use routes::Port;
use serde::Serialize;
use std::sync::Arc;
use tokio::sync::Semaphore;

/// What all requests on one port may take together, however many threads serve it.
#[derive(Clone)]
pub struct Bounds {
    budget: Budget,
    ranges: Budget,
    scans: Arc<Semaphore>,
}

impl Default for Bounds {
    fn default() -> Bounds {
        Bounds {
            budget: Budget::new(limits::HTTP_BYTES_MAX),
            ranges: Budget::new(limits::RANGE_BYTES_MAX),
            scans: Arc::new(Semaphore::new(limits::SCANS_MAX)),
        }
    }
}

/// The app of the client port, for one of the threads that serve it.
pub fn client_app(node: Node, metrics: Arc<Metrics>, bounds: Bounds) -> Entrance {
    app(Port::Client, node, metrics, bounds, None)
}

/// The app of the admin port.
pub fn admin_app(node: Node, metrics: Arc<Metrics>, token: Arc<TokenFile>) -> Entrance {
    app(Port::Admin, node, metrics, Bounds::default(), Some(token))
}

/// What handlers need.
#[derive(Clone)]
pub struct App {
    node: Node,
    metrics: Arc<Metrics>,
    budget: Budget,
    ranges: Budget,
    scans: Arc<Semaphore>,
}

fn app(port: Port, node: Node, metrics: Arc<Metrics>, bounds: Bounds, token: Option<Arc<TokenFile>>) -> Entrance {
    let hosts = Hosts::of(node.config());
    let url_of = |port| match port {
        Port::Client => (port, node.config().client_url.clone()),
        Port::Admin => (port, node.config().admin_url.clone()),
    };
    let urls = [Port::Client, Port::Admin].map(url_of).into();
    let Bounds { budget, ranges, scans } = bounds;
    let app = Arc::new(App { node, metrics: metrics.clone(), budget: budget.clone(), ranges, scans });
    let backend = Box::new(move |call| -> front::Answer {
        let app = app.clone();
        match call {
            // A future of its own, since the one for all calls together is many times as large.
            Call::Get { key, revision, consistency, has } => {
                Box::pin(async move { kv::get(&app, key, revision, consistency, has).await })
            }
            call => Box::pin(async move { carry_out(&app, call).await }),
        }
    });
    Front { port, urls, hosts, token, metrics, budget, backend, meters: Meters::default() }.into_service()
}

async fn carry_out(app: &App, call: Call) -> Result<Response, Problem> {
    match call {
        Call::Put { key, value, condition } => kv::put(app, key, value, condition).await,
        Call::Delete { key, condition } => kv::delete(app, key, condition).await,
        Call::Get { key, revision, consistency, has } => kv::get(app, key, revision, consistency, has).await,
        Call::Range { query, consistency } => kv::range(app, query, consistency).await,
        Call::Status => Ok(admin::status(app)),
        Call::Members => admin::members(app).await,
        Call::Change { target, if_match, change } => admin::change(app, &target, if_match, change).await,
        Call::Transfer { target, to } => admin::transfer(app, &target, to).await,
        Call::Init { target, init } => admin::init(app, &target, init).await,
        Call::Reset { target, reset } => admin::reset(app, &target, reset).await,
        Call::Livez => health::livez(app),
        Call::Readyz { verbose } => health::readyz(app, verbose),
        Call::Metrics => Ok(health::metrics(app)),
        Call::Version => Ok(health::version(app)),
        Call::OpenApi => Ok(openapi::response()),
    }
}

/// JSON and a newline, so that a shell's prompt does not stick to what curl prints.
fn line_of_json(value: &impl Serialize) -> Vec<u8> {
    let mut json = serde_json::to_vec(value).expect("the API's types have string keys and no failing serializers");
    json.push(b'\n');
    json
}

/// A value as a JSON answer.
fn json(value: &impl Serialize) -> Response {
    let mut response = Response::new(Body::from(line_of_json(value)));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
