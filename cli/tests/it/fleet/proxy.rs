//! A proxy of ours in front of a server: calls fail before the server acts or after, or credentials have expired.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Bytes, Frame, Incoming};
use hyper::service::service_fn;
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};

use crate::kills::Dice;

/// How it treats calls now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mood {
    /// As if it were not there.
    Quiet,
    /// A third of all calls has trouble of some sort.
    Troubled,
    /// Nobody's credentials are good.
    Expired,
}

/// What becomes of one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lot {
    Passes,
    /// 503, and the server hears nothing of it.
    Refused,
    /// The server hears nothing of it, and the client hears nothing for a while; then the line is dead.
    Hangs,
    /// The server acts; its answer is lost.
    AnswerLost,
    /// The server acts; half of its answer's body comes.
    CutOff,
    Expired,
}

/// A proxy, for as long as the process lives.
#[derive(Debug, Clone)]
pub(crate) struct Proxy(Arc<State>);

#[derive(Debug)]
struct State {
    server: SocketAddr,
    address: String,
    mood: Mutex<Mood>,
    dice: Mutex<Dice>,
    calls: AtomicU64,
    troubled: AtomicU64,
    by_operation: Mutex<BTreeMap<String, u64>>,
}

/// What a call is answered with.
pub(crate) type Answer = Response<BoxBody<Bytes, io::Error>>;

impl Proxy {
    /// Begins to serve before the server at `server`.
    pub(crate) fn before(server: &str, seed: u64) -> Self {
        let server = server.trim_start_matches("http://").parse().unwrap();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let state = State {
            server,
            address,
            mood: Mutex::new(Mood::Quiet),
            dice: Mutex::new(Dice(seed)),
            calls: AtomicU64::new(0),
            troubled: AtomicU64::new(0),
            by_operation: Mutex::default(),
        };
        let proxy = Self(Arc::new(state));
        let (state, (started, ready)) = (proxy.0.clone(), mpsc::channel());
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let listener = TcpListener::from_std(listener).unwrap();
                started.send(()).unwrap();
                loop {
                    let (socket, _) = listener.accept().await.unwrap();
                    socket.set_nodelay(true).unwrap();
                    let state = state.clone();
                    let service = service_fn(move |call| answer(state.clone(), call));
                    tokio::spawn(async move {
                        // A line that ends in the midst is what this is for.
                        let _ = hyper::server::conn::http1::Builder::new()
                            .serve_connection(TokioIo::new(socket), service)
                            .await;
                    });
                }
            });
        });
        ready.recv().unwrap();
        proxy
    }

    /// Where it serves.
    pub(crate) fn address(&self) -> &str {
        &self.0.address
    }

    pub(crate) fn set(&self, mood: Mood) {
        *self.0.mood.lock().unwrap() = mood;
    }

    /// The calls since this was last asked, by what was asked for.
    pub(crate) fn take_counts(&self) -> BTreeMap<String, u64> {
        std::mem::take(&mut *self.0.by_operation.lock().unwrap())
    }

    /// All calls so far, and those that had trouble.
    pub(crate) fn calls(&self) -> (u64, u64) {
        (self.0.calls.load(Ordering::Relaxed), self.0.troubled.load(Ordering::Relaxed))
    }
}

impl State {
    /// Counts a call: by the operation that it names, or, where it names none, by its method and what it asks for.
    fn count<T>(&self, call: &Request<T>) {
        let named = call.headers().get("x-amz-target").and_then(|target| target.to_str().ok()?.split('.').nth(1));
        let of_item = call.uri().path().trim_matches('/').contains('/');
        let plain = format!("{} {}", call.method(), if of_item { "item" } else { "bucket" });
        *self.by_operation.lock().unwrap().entry(named.map_or(plain, str::to_owned)).or_default() += 1;
    }

    fn lot(&self) -> Lot {
        let mood = *self.mood.lock().unwrap();
        let lot = match mood {
            Mood::Quiet => Lot::Passes,
            Mood::Expired => Lot::Expired,
            Mood::Troubled => match self.dice.lock().unwrap().roll(12) {
                0 => Lot::Refused,
                1 => Lot::Hangs,
                2 => Lot::AnswerLost,
                3 => Lot::CutOff,
                _ => Lot::Passes,
            },
        };
        self.calls.fetch_add(1, Ordering::Relaxed);
        self.troubled.fetch_add(u64::from(lot != Lot::Passes), Ordering::Relaxed);
        lot
    }
}

fn lost(why: &str) -> io::Error {
    io::Error::other(why.to_owned())
}

async fn answer(state: Arc<State>, call: Request<Incoming>) -> io::Result<Answer> {
    let lot = state.lot();
    state.count(&call);
    let speaks_json = call.headers().contains_key("x-amz-target");
    let (parts, body) = call.into_parts();
    let method = parts.method.clone();
    // All of the call is taken in first, also of one that is refused: so its line can bear the next.
    let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
    match lot {
        Lot::Refused => Ok(told(503, String::new(), false)),
        Lot::Expired => Ok(expired(speaks_json, &method)),
        Lot::Hangs => {
            tokio::time::sleep(Duration::from_millis(300)).await;
            Err(lost("the line is dead"))
        }
        Lot::Passes => passed_on(state.server, parts, body).await.map(whole),
        Lot::AnswerLost => {
            passed_on(state.server, parts, body).await?;
            Err(lost("the answer is lost"))
        }
        Lot::CutOff => passed_on(state.server, parts, body).await.map(cut_off),
    }
}

/// Asks the server itself.
pub(crate) async fn passed_on(
    server: SocketAddr,
    mut parts: hyper::http::request::Parts,
    body: Bytes,
) -> io::Result<(hyper::http::response::Parts, Bytes)> {
    // What it asked to be told before it sent its body, it was told by this proxy.
    parts.headers.remove("expect");
    let socket = TcpStream::connect(server).await?;
    socket.set_nodelay(true)?;
    let line = hyper::client::conn::http1::handshake(TokioIo::new(socket)).await;
    let (mut sender, connection) = line.map_err(io::Error::other)?;
    tokio::spawn(connection);
    let answer = sender.send_request(Request::from_parts(parts, Full::new(body))).await.map_err(io::Error::other)?;
    let (parts, body) = answer.into_parts();
    Ok((parts, body.collect().await.map_err(io::Error::other)?.to_bytes()))
}

fn full(body: impl Into<Bytes>) -> BoxBody<Bytes, io::Error> {
    Full::new(body.into()).map_err(|never: Infallible| match never {}).boxed()
}

pub(crate) fn whole((parts, body): (hyper::http::response::Parts, Bytes)) -> Answer {
    Response::from_parts(parts, full(body))
}

fn cut_off((parts, body): (hyper::http::response::Parts, Bytes)) -> Answer {
    let half = Frame::data(body.slice(..body.len() / 2));
    let pieces = futures::stream::iter([Ok(half), Err(lost("the line is dead"))]);
    Response::from_parts(parts, BodyExt::boxed(StreamBody::new(pieces)))
}

pub(crate) fn told(status: u16, body: String, json: bool) -> Answer {
    let kind = if json { "application/x-amz-json-1.0" } else { "application/xml" };
    Response::builder().status(status).header("content-type", kind).body(full(body)).unwrap()
}

fn expired(speaks_json: bool, method: &Method) -> Answer {
    let words = "The security token included in the request is expired";
    if speaks_json {
        told(400, format!(r#"{{"__type": "ExpiredTokenException", "message": "{words}"}}"#), true)
    } else if method == Method::HEAD {
        told(400, String::new(), false)
    } else {
        told(400, format!("<Error><Code>ExpiredToken</Code><Message>{words}</Message></Error>"), false)
    }
}
