//! A small blocking HTTP/1.1 client: it sends exactly what it is told, once, and records what comes back.

use crate::answers;
use anyhow::{Context, Result, anyhow, bail};
use raftkv_api::Problem;
use serde::de::DeserializeOwned;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// Longest silence of a node within an exchange: a node gives up on a body after 30 s.
pub(crate) const SILENCE_MAX: Duration = Duration::from_secs(45);

/// A request to one node.
#[derive(Clone, Debug)]
pub struct Request {
    method: String,
    authority: String,
    target: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

/// What a node answered.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The headers, with names in lower case.
    pub headers: Vec<(String, String)>,
    /// The whole body.
    pub body: Vec<u8>,
}

impl Request {
    /// A request to `url`, which is `http://host:port/path?query` and is sent as it stands.
    pub fn new(method: &str, url: &str) -> Request {
        let rest = url.strip_prefix("http://").unwrap_or(url);
        let (authority, target) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let target = if target.is_empty() { "/" } else { target };
        Request {
            method: method.into(),
            authority: authority.into(),
            target: target.into(),
            headers: vec![("Host".into(), authority.into())],
            body: Vec::new(),
        }
    }

    /// The method.
    pub fn method(&self) -> &str {
        &self.method
    }

    /// Sets a header, `Host` too.
    pub fn header(mut self, name: &str, value: impl ToString) -> Request {
        self.headers.retain(|(other, _)| !other.eq_ignore_ascii_case(name));
        self.headers.push((name.into(), value.to_string()));
        self
    }

    /// Leaves out a header.
    pub fn without(mut self, name: &str) -> Request {
        self.headers.retain(|(other, _)| !other.eq_ignore_ascii_case(name));
        self
    }

    /// Sets the body.
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Request {
        self.body = body.into();
        self
    }

    /// Sets a JSON body.
    pub fn json(self, body: &impl serde::Serialize) -> Request {
        let body = serde_json::to_vec(body).expect("a wire type has string keys and no failing serializer");
        self.header("Content-Type", "application/json").body(body)
    }

    /// Sends the request over a connection of its own.
    pub fn send(&self) -> Result<Answer> {
        let sent = Connection::open(&self.authority).and_then(|mut connection| connection.exchange(self));
        sent.with_context(|| format!("{} http://{}{}", self.method, self.authority, self.target))
    }
}

impl Answer {
    /// A header, found by its lower-case name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str())
    }

    /// The answer, if its status is `want`; else an error that shows what came.
    pub fn expect(self, want: u16) -> Result<Answer> {
        if self.status == want {
            Ok(self)
        } else {
            Err(anyhow!("status {} instead of {want}: {}", self.status, self.text()))
        }
    }

    /// The body as JSON.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T> {
        serde_json::from_slice(&self.body).with_context(|| format!("status {}: {}", self.status, self.text()))
    }

    /// The body as a problem document; its status must be the answer's, and its media type the right one.
    pub fn problem(&self) -> Result<Problem> {
        let problem: Problem = self.json()?;
        if problem.status != self.status || self.header("content-type") != Some("application/problem+json") {
            bail!("status {}, headers {:?}, problem {problem:?}", self.status, self.headers);
        }
        Ok(problem)
    }

    /// The `ETag` without its quotes.
    pub fn etag(&self) -> Result<u64> {
        let tag = self.header("etag").with_context(|| format!("no ETag in {:?}", self.headers))?;
        tag.trim_matches('"').parse().with_context(|| format!("ETag {tag}"))
    }

    /// The body as text; bytes that are not UTF-8 are replaced.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// A connection that can carry many exchanges. After an error it must not be used again.
#[derive(Debug)]
pub struct Connection {
    stream: BufReader<TcpStream>,
    port: u16,
    /// Whether the node said that it closes the connection.
    closing: bool,
}

impl Connection {
    /// Connects to `host:port`.
    pub fn open(authority: &str) -> io::Result<Connection> {
        Connection::open_within(authority, SILENCE_MAX)
    }

    /// The same, with another longest silence of the node in an exchange.
    pub fn open_within(authority: &str, silence_max: Duration) -> io::Result<Connection> {
        let stream = TcpStream::connect(authority)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(silence_max))?;
        stream.set_write_timeout(Some(silence_max))?;
        let port = stream.peer_addr()?.port();
        Ok(Connection { stream: BufReader::new(stream), port, closing: false })
    }

    /// Sends a request and receives the answer. After an error, the node may have got the request or not.
    pub fn exchange(&mut self, request: &Request) -> io::Result<Answer> {
        // A node may refuse a body before it has read it all, and close: then sending fails, but the answer is there.
        let sent = self.send(request);
        self.receive(request).map_err(|error| sent.err().unwrap_or(error))
    }

    /// Sends a request, and waits for nothing.
    pub fn send(&mut self, request: &Request) -> io::Result<()> {
        let mut bytes = format!("{} {} HTTP/1.1\r\n", request.method, request.target).into_bytes();
        for (name, value) in &request.headers {
            bytes.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
        }
        let has_length = request.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("content-length"));
        if !has_length && (!request.body.is_empty() || request.method != "GET") {
            bytes.extend_from_slice(format!("Content-Length: {}\r\n", request.body.len()).as_bytes());
        }
        bytes.extend_from_slice(b"\r\n");
        bytes.extend_from_slice(&request.body);
        self.stream.get_mut().write_all(&bytes)
    }

    /// Receives the answer to a request that was sent.
    pub fn receive(&mut self, request: &Request) -> io::Result<Answer> {
        let answer = self.read_answer(&request.method)?;
        answers::record(self.port, &request.method, &request.target, answer.status);
        Ok(answer)
    }

    fn read_answer(&mut self, method: &str) -> io::Result<Answer> {
        let line = self.line()?;
        let status = line.split(' ').nth(1).and_then(|code| code.parse().ok());
        let status = status.ok_or_else(|| garbled(format!("status line '{line}'")))?;
        let mut headers = Vec::new();
        loop {
            let line = self.line()?;
            if line.is_empty() {
                break;
            }
            let (name, value) = line.split_once(':').ok_or_else(|| garbled(format!("header '{line}'")))?;
            headers.push((name.to_ascii_lowercase(), value.trim().to_string()));
        }
        let mut answer = Answer { status, headers, body: Vec::new() };
        self.closing |= answer.header("connection") == Some("close");
        let bodiless = method == "HEAD" || status == 204 || status == 304 || status < 200;
        if !bodiless {
            answer.body = self.body(&answer)?;
        }
        Ok(answer)
    }

    fn body(&mut self, answer: &Answer) -> io::Result<Vec<u8>> {
        let mut body = Vec::new();
        if answer.header("transfer-encoding") == Some("chunked") {
            loop {
                let line = self.line()?;
                let size = line.split(';').next().unwrap_or_default();
                let size = usize::from_str_radix(size, 16).map_err(|_| garbled(format!("chunk size '{line}'")))?;
                let filled = body.len();
                body.resize(filled + size, 0);
                self.stream.read_exact(&mut body[filled..])?;
                self.line()?;
                if size == 0 {
                    return Ok(body);
                }
            }
        }
        match answer.header("content-length").map(str::parse) {
            Some(Ok(length)) => {
                body.resize(length, 0);
                self.stream.read_exact(&mut body)?;
            }
            Some(Err(_)) => return Err(garbled(format!("{:?}", answer.headers))),
            None => {
                self.closing = true;
                self.stream.read_to_end(&mut body)?;
            }
        }
        Ok(body)
    }

    fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        if self.stream.read_line(&mut line)? == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the node closed the connection"));
        }
        Ok(line.trim_end_matches(['\r', '\n']).to_string())
    }
}

/// Why an exchange over a kept connection failed, in words.
pub(crate) enum Broken {
    /// The node cannot have got the request.
    NotSent(String),
    /// The node may have got the request.
    NoAnswer(String),
}

/// The one connection that a client keeps, to the node that it used last.
#[derive(Default)]
pub(crate) struct Kept(Option<(String, Connection)>);

impl Kept {
    /// Sends to the node at `url`, over the kept connection if that leads there; gives up after a silence of this
    /// length.
    pub(crate) fn exchange(&mut self, url: &str, request: &Request, silence_max: Duration) -> Result<Answer, Broken> {
        let kept = self.0.take().filter(|(to, connection)| to == url && !connection.closing);
        let mut connection = match kept {
            Some((_, connection)) => connection,
            None => Connection::open_within(url.trim_start_matches("http://"), silence_max)
                .map_err(|error| Broken::NotSent(error.to_string()))?,
        };
        let answer = connection.exchange(request).map_err(|error| Broken::NoAnswer(error.to_string()))?;
        self.0 = Some((url.to_string(), connection));
        Ok(answer)
    }
}

fn garbled(what: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;
    use std::thread;

    /// Answers one request with `answer`; the thread returns the request.
    fn one_answer(answer: &'static str) -> (String, thread::JoinHandle<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let served = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut asked = vec![0; 4096];
            let length = stream.read(&mut asked).unwrap();
            stream.write_all(answer.as_bytes()).unwrap();
            String::from_utf8_lossy(&asked[..length]).into_owned()
        });
        (url, served)
    }

    #[test]
    fn a_request_is_sent_as_it_was_put_together() {
        let (url, asked) = one_answer("HTTP/1.1 200 OK\r\nETag: \"7\"\r\nContent-Length: 2\r\n\r\nok");
        let request = Request::new("PUT", &format!("{url}/v1/kv/%FF?a=b")).header("Host", "x").body("abc");
        let answer = request.send().unwrap().expect(200).unwrap();
        assert_eq!((answer.text().as_str(), answer.etag().unwrap()), ("ok", 7));
        assert_eq!(asked.join().unwrap(), "PUT /v1/kv/%FF?a=b HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc");
    }

    #[test]
    fn chunks_are_put_together() {
        let (url, _asked) =
            one_answer("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n");
        assert_eq!(Request::new("GET", &url).send().unwrap().text(), "abcde");
    }

    #[test]
    fn without_a_length_the_body_ends_with_the_connection() {
        let (url, _asked) = one_answer("HTTP/1.1 400 Bad Request\r\n\r\nno");
        let answer = Request::new("GET", &url).send().unwrap();
        assert_eq!((answer.status, answer.text().as_str()), (400, "no"));
        assert_eq!(answer.expect(200).unwrap_err().to_string(), "status 400 instead of 200: no");
    }

    #[test]
    fn a_short_answer_and_a_problem_of_another_status_are_errors() {
        let (url, _asked) = one_answer("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab");
        assert!(Request::new("GET", &url).send().is_err());
        let (url, _asked) = one_answer(
            "HTTP/1.1 400 Bad Request\r\nContent-Type: application/problem+json\r\n\r\n{\"type\":\"t\",\"title\":\"\",\"status\":409,\
             \"detail\":\"\",\"code\":\"not_leader\",\"retryable\":true,\"outcome\":\"none\",\"leader\":null}",
        );
        assert!(Request::new("GET", &url).send().unwrap().problem().is_err());
    }
}
