//! What comes before every handler: the router made from the route table, and the checks in their order.
//!
//! Enters: a request, matched or not. Leaves: a [`Call`] for the backend, and the backend's answer or a problem as a
//! response. Everything is refused by default: a route is open only if its row says so.

use crate::httpapi::body::{self, BodyLimits, Budget, Charge};
use crate::httpapi::call::{self, Call};
use crate::httpapi::errors;
use crate::httpapi::hosts::Hosts;
use crate::httpapi::routes::{self, Access, Endpoint, KEY_PREFIX, Port, Route};
use crate::metrics::Metrics;
use crate::token::TokenFile;
use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::http::request::Parts;
use axum::http::{self, HeaderMap, HeaderValue, Method, header};
use axum::response::Response;
use axum::routing::{MethodFilter, on};
use bytes::Bytes;
use hyper::body::Body as HttpBody;
use prometheus::{Histogram, IntCounter};
use raftkv_api::{Code, Problem};
use raftkv_core::limits;
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Instant;
use tower::Service;

/// The backend's answer to one call.
pub type Answer = Pin<Box<dyn Future<Output = Result<Response, Problem>> + Send>>;

/// What a port's router needs.
pub struct Front {
    /// Which port.
    pub port: Port,
    /// Where each port is advertised.
    pub urls: BTreeMap<Port, String>,
    /// Names that `Host` may carry.
    pub hosts: Hosts,
    /// The cluster's tokens; a port without them answers 401 on every route that needs one.
    pub token: Option<Arc<TokenFile>>,
    /// Counts requests.
    pub metrics: Arc<Metrics>,
    /// Bytes in memory.
    pub budget: Budget,
    /// Carries calls out.
    pub backend: Box<dyn Fn(Call) -> Answer + Send + Sync>,
    /// Metrics that are looked up once and used by every request.
    pub meters: Meters,
}

/// The metrics of a route's requests that were answered with 200, which nearly all are.
struct Meter {
    requests: IntCounter,
    seconds: Histogram,
}

/// The meters of all routes of a port; each is made with its first request.
pub struct Meters(BTreeMap<Endpoint, OnceLock<Meter>>);

impl Default for Meters {
    fn default() -> Meters {
        Meters(routes::table().iter().map(|route| (route.endpoint, OnceLock::new())).collect())
    }
}

/// A port's service: calls on keys go straight to their rows, the others through axum's router.
#[derive(Clone)]
pub struct Entrance {
    front: Arc<Front>,
    router: Router,
}

impl<B> Service<http::Request<B>> for Entrance
where
    B: HttpBody<Data = Bytes> + Send + 'static,
    B::Error: Into<axum::BoxError>,
{
    type Response = Response;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        let is_key = self.front.port == Port::Client && request.uri().path().starts_with(KEY_PREFIX);
        match routes::of_key(request.method()).filter(|_| is_key) {
            Some(route) if request.body().is_end_stream() => {
                let answer = self.front.clone().serve_bodiless(route, request.into_parts().0);
                Box::pin(async move { Ok(answer.await) })
            }
            Some(route) => {
                let front = self.front.clone();
                Box::pin(async move { Ok(front.serve(Matched::Route(route), request.map(Body::new)).await) })
            }
            None => Box::pin(self.router.call(request)),
        }
    }
}

/// What a request has matched: a row, or nothing, and the code for that.
#[derive(Clone, Copy)]
enum Matched {
    Route(&'static Route),
    Nothing(Code),
}

impl Front {
    /// The service of this port.
    pub fn into_service(self) -> Entrance {
        let front = Arc::new(self);
        let handler = |matched: Matched| {
            let front = front.clone();
            move |request: Request| async move { front.serve(matched, request).await }
        };
        let mut router = Router::new();
        for route in routes::table().iter().filter(|route| route.ports.contains(&front.port)) {
            let filter = MethodFilter::try_from(route.method.clone()).expect("the table holds standard methods");
            for pattern in patterns(route.path) {
                router = router.route(&pattern, on(filter, handler(Matched::Route(route))));
            }
        }
        let router = router
            .method_not_allowed_fallback(handler(Matched::Nothing(Code::MethodNotAllowed)))
            .fallback(handler(Matched::Nothing(Code::NotFound)));
        Entrance { front, router }
    }

    async fn serve(&self, matched: Matched, request: Request) -> Response {
        let started = Instant::now();
        let method = request.method().clone();
        let (head, mut body) = request.into_parts();
        let result = self.answer(matched, &head, &mut body).await;
        if result.as_ref().is_err_and(|problem| problem.code != Code::RequestTimeout) {
            body::discard(&mut body, &head.headers).await;
        }
        self.finish(matched, &method, started, result)
    }

    /// The same for a request without a body. It is parsed here and not in the future that is waited for: hyper goes on
    /// reading into the buffer in which the head lies, and has to take a new one as long as somebody holds the head.
    fn serve_bodiless(self: Arc<Front>, route: &'static Route, head: Parts) -> impl Future<Output = Response> {
        let started = Instant::now();
        let matched = Matched::Route(route);
        let begun = self.check(matched, &head).and_then(|route| self.begin(route, &head, Bytes::new()));
        let method = head.method;
        async move {
            let result = match begun {
                Ok((answer, _charge)) => answer.await,
                Err(problem) => Err(problem),
            };
            self.finish(matched, &method, started, result)
        }
    }

    fn finish(
        &self,
        matched: Matched,
        method: &Method,
        started: Instant,
        result: Result<Response, Problem>,
    ) -> Response {
        let mut response = result.unwrap_or_else(|problem| errors::response(&problem));
        // A cache in between would turn a linearizable read into a stale one.
        response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        self.count(matched, method, response.status().as_u16(), started);
        response
    }

    async fn answer(&self, matched: Matched, head: &Parts, body: &mut Body) -> Result<Response, Problem> {
        let route = self.check(matched, head)?;
        let (body, body_charge) = match body_bytes_max(route) {
            None => (Bytes::new(), None),
            Some(bytes_max) => {
                let limits = BodyLimits::bytes(bytes_max);
                let (body, charge) = body::read(body, &head.headers, limits, &self.budget).await?;
                (body, Some(charge))
            }
        };
        let (answer, charge) = self.begin(route, head, body)?;
        let result = answer.await;
        drop((body_charge, charge));
        result
    }

    /// The checks, cheapest and most general first; nothing of an unknown caller's body is read.
    fn check(&self, matched: Matched, head: &Parts) -> Result<&'static Route, Problem> {
        check_size(head)?;
        check_promises(&head.headers)?;
        self.hosts.check(&head.uri, &head.headers)?;
        let route = match matched {
            Matched::Route(route) => route,
            Matched::Nothing(code) => return Err(Problem::new(code, self.nothing(head))),
        };
        if route.access == Access::Token {
            self.check_token(&head.headers)?;
        }
        Ok(route)
    }

    /// What is said of a path or method that this port does not have: people mix the ports up.
    fn nothing(&self, head: &Parts) -> String {
        let (path, role) = (head.uri.path(), self.port.role());
        let asked = format!("{} {path}: this is {role}", head.method);
        match routes::port_of(path).filter(|port| *port != self.port && self.urls.contains_key(port)) {
            Some(port) => format!("{asked}; this path is on its {} port, {}", port.as_str(), self.urls[&port]),
            None => format!("{asked}; /openapi.json lists what it has"),
        }
    }

    /// The answer to wait for, and what the call is charged besides its body.
    fn begin(&self, route: &Route, head: &Parts, body: Bytes) -> Result<(Answer, Option<Charge>), Problem> {
        let call = call::parse(route, head, body)?;
        // Health must be answered even when the budget is spent.
        let charge = touches_keys(&call).then(|| self.budget.take(limits::CALL_BYTES)).transpose()?;
        Ok(((self.backend)(call), charge))
    }

    fn check_token(&self, headers: &HeaderMap) -> Result<(), Problem> {
        let presented = bearer(headers);
        match (&self.token, presented) {
            (Some(token), Some(presented)) if token.accepts(presented) => Ok(()),
            (Some(_) | None, Some(_)) => {
                Err(Problem::new(Code::Unauthorized, "the bearer token is not this cluster's"))
            }
            (Some(_) | None, None) => Err(Problem::new(Code::Unauthorized, "send Authorization: Bearer <token>, once")),
        }
    }

    fn count(&self, matched: Matched, method: &Method, status: u16, started: Instant) {
        let seconds = started.elapsed().as_secs_f64();
        let meter = match matched {
            Matched::Route(route) if status == 200 && *method == route.method => self.meters.0.get(&route.endpoint),
            Matched::Route(_) | Matched::Nothing(_) => None,
        };
        let found = || self.meter(matched, method, status);
        match meter {
            Some(meter) => meter.get_or_init(found).count(seconds),
            None => found().count(seconds),
        }
    }

    fn meter(&self, matched: Matched, method: &Method, status: u16) -> Meter {
        let (port, route) = (self.port.as_str(), matched.label());
        let labels = [port, route, method_label(method), &status.to_string()];
        Meter {
            requests: self.metrics.http_requests_total.with_label_values(&labels),
            seconds: self.metrics.http_request_duration_seconds.with_label_values(&[port, route]),
        }
    }
}

impl Meter {
    fn count(&self, seconds: f64) {
        self.requests.inc();
        self.seconds.observe(seconds);
    }
}

impl Matched {
    /// The metrics' label; there are few, whatever clients ask for.
    fn label(self) -> &'static str {
        match self {
            Matched::Route(route) => route.path,
            Matched::Nothing(_) => "unmatched",
        }
    }
}

/// The path in axum's syntax. A key may be any rest of a path, even an empty one, which axum's wildcard never is.
fn patterns(path: &str) -> Vec<String> {
    match path.strip_suffix("{key}") {
        Some(prefix) => vec![KEY_PREFIX.to_string(), format!("{prefix}{{*key}}")],
        None => vec![path.to_string()],
    }
}

/// Checks the size of the head. hyper answers oversized heads without a body, so its own limit is higher and this one
/// is met first.
fn check_size(head: &Parts) -> Result<(), Problem> {
    let target = head.uri.authority().map_or(0, |authority| authority.as_str().len())
        + head.uri.path_and_query().map_or(0, |path| path.as_str().len());
    if target > limits::URI_BYTES_MAX {
        let detail = format!("the request target has {target} bytes; {} are allowed", limits::URI_BYTES_MAX);
        return Err(Problem::new(Code::UriTooLong, detail));
    }
    let line_ends = 4; // ": " and CR LF
    let headers = head.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + line_ends);
    let whole = target + headers.sum::<usize>();
    if whole > limits::HEADER_BYTES_MAX {
        let detail = format!("the request's head has {whole} bytes; {} are allowed", limits::HEADER_BYTES_MAX);
        return Err(Problem::new(Code::HeadersTooLarge, detail));
    }
    Ok(())
}

/// Refuses what hyper lets pass and nobody here keeps: a condition on which the body would be sent, and an encoding that
/// would have to be undone before the body is a value.
fn check_promises(headers: &HeaderMap) -> Result<(), Problem> {
    let other = |name, known: &str| {
        let mut values = headers.get_all(name).iter();
        values.find(|value| !value.as_bytes().trim_ascii().eq_ignore_ascii_case(known.as_bytes()))
    };
    if let Some(expected) = other(header::EXPECT, "100-continue") {
        let detail = format!("Expect: {expected:?} is not known; 100-continue is");
        return Err(Problem::new(Code::ExpectationFailed, detail));
    }
    if let Some(encoding) = other(header::TRANSFER_ENCODING, "chunked") {
        let detail = format!("Transfer-Encoding: {encoding:?} is not undone here; send the body as it is, or chunked");
        return Err(Problem::new(Code::BadRequest, detail));
    }
    Ok(())
}

/// The token of the only `Authorization` header.
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let (first, None) = (values.next()?, values.next()) else { return None };
    let (scheme, token) = first.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
}

/// `None` for calls without a body; one that is sent all the same means nothing and is not read.
fn body_bytes_max(route: &Route) -> Option<usize> {
    let key_value = route.ports == [Port::Client];
    match (route.method == Method::PUT || route.method == Method::POST, key_value) {
        (false, _) => None,
        (true, true) => Some(limits::BODY_BYTES_MAX),
        (true, false) => Some(limits::ADMIN_BODY_BYTES_MAX),
    }
}

fn touches_keys(call: &Call) -> bool {
    matches!(call, Call::Put { .. } | Call::Delete { .. } | Call::Get { .. } | Call::Range { .. })
}

fn method_label(method: &Method) -> &'static str {
    let known = [("GET", Method::GET), ("HEAD", Method::HEAD), ("PUT", Method::PUT), ("POST", Method::POST)];
    let known = known.iter().chain(&[("DELETE", Method::DELETE)]).find(|(_, known)| known == method);
    known.map_or("other", |(label, _)| label)
}

#[cfg(test)]
#[path = "front_tests.rs"]
mod tests;
