//! A proxy in front of a server: calls fail before or after the server acts, credentials are expired, or the server is
//! far away.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Bytes, Frame, Incoming};
use hyper::service::service_fn;
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::net::{TcpListener, TcpStream};

use super::asked::{Permission, permissions};
use super::{boto, ministack};
use crate::kills::Dice;
use crate::world::World;

/// How it treats calls now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mood {
    /// Like no proxy.
    Quiet,
    /// A third of all calls fail in some way.
    Troubled,
    /// All credentials are invalid.
    Expired,
    /// Every call takes this much longer.
    Far(Duration),
    /// Every connection ends before the server receives the call.
    Away,
    /// The same after this many calls.
    AwayAfter(u64),
    /// No call is answered any more after this many calls.
    SilentAfter(u64),
    /// No call on a path with these words is ever answered.
    SilentAbout(&'static str),
    /// No call that writes an item with these words in its path is ever answered.
    SilentPuts(&'static str),
    /// The first two calls of a method on an item are answered with 500.
    FailsTwice,
    /// Calls of this method on items with these words in their path are denied.
    Denies(&'static str, &'static str),
    /// Items with these words in their path are in an archive tier.
    Archives(&'static str),
    /// Calls of a method with this prefix, on paths with these words, are answered with this status and code.
    Answers(&'static str, &'static str, u16, &'static str),
}

/// What becomes of one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Lot {
    Passes,
    /// 503, and the server does not receive it.
    Refused,
    /// The server does not receive it, the client gets no answer for a while, and then the connection is dead.
    Hangs,
    /// The same, for longer than a client of a queue waits for anything except tasks.
    TimesOut,
    /// The server acts; its answer is lost.
    AnswerLost,
    /// The server acts; half of the response's body arrives, or nothing if it has none.
    CutOff,
    Expired,
    /// The connection ends, and the server does not receive the call.
    Unheard,
    /// The connection stays open, and nobody gets anything.
    Unanswered,
}

/// This many calls of each kind show the share.
const CALLS: u64 = 200;

/// A proxy, for as long as the process lives.
#[derive(Debug, Clone)]
pub(crate) struct Proxy(Arc<State>);

#[derive(Debug)]
struct State {
    server: SocketAddr,
    address: String,
    mood: Mutex<Mood>,
    dice: Mutex<Dice>,
    lots: Mutex<BTreeMap<Lot, u64>>,
    by_operation: Mutex<BTreeMap<String, u64>>,
    asked: Mutex<BTreeSet<Permission>>,
    refused: Mutex<Option<Permission>>,
    /// The calls on each item, by method and path.
    on_items: Mutex<BTreeMap<String, u64>>,
    /// The number of current writes of items, and the maximum so far.
    puts: Mutex<(u64, u64)>,
}

/// The response to a call.
pub(crate) type Answer = Response<BoxBody<Bytes, io::Error>>;

impl Proxy {
    /// Begins to serve in front of the server at `server`, on the same host.
    pub(crate) fn before(server: &str, seed: u64) -> Self {
        let server: SocketAddr = server.trim_start_matches("http://").parse().unwrap();
        let listener = std::net::TcpListener::bind((server.ip(), 0)).unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let state = State {
            server,
            address,
            mood: Mutex::new(Mood::Quiet),
            dice: Mutex::new(Dice(seed)),
            lots: Mutex::default(),
            by_operation: Mutex::default(),
            asked: Mutex::default(),
            refused: Mutex::default(),
            on_items: Mutex::default(),
            puts: Mutex::default(),
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
                        // Connections that break are the purpose of this proxy.
                        let _ = hyper::server::conn::http1::Builder::new()
                            .max_headers(1_024)
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
        *self.0.mood.lock() = mood;
    }

    /// The calls since the last call of this method, by operation.
    pub(crate) fn take_counts(&self) -> BTreeMap<String, u64> {
        std::mem::take(&mut *self.0.by_operation.lock())
    }

    /// The most concurrent writes since the last call of this method.
    pub(crate) fn take_puts_at_once(&self) -> u64 {
        let (now, most) = &mut *self.0.puts.lock();
        std::mem::replace(most, *now)
    }

    /// The permissions that all calls so far needed.
    pub(crate) fn asked(&self) -> BTreeSet<Permission> {
        self.0.asked.lock().clone()
    }

    /// From now on calls that need this permission are answered with 503; with `None`, no call is.
    pub(crate) fn refuse(&self, permission: Option<Permission>) {
        *self.0.refused.lock() = permission;
    }

    /// How many items failed twice and then no more.
    pub(crate) fn failed_twice(&self) -> usize {
        self.0.on_items.lock().values().filter(|calls| **calls > 2).count()
    }

    /// What became of the calls while calls failed or credentials were invalid.
    pub(crate) fn lots(&self) -> BTreeMap<Lot, u64> {
        self.0.lots.lock().clone()
    }
}

impl State {
    /// Counts a call by its operation, or, if it names none, by its method and subject.
    fn count<T>(&self, call: &Request<T>) {
        let named = call.headers().get("x-amz-target").and_then(|target| target.to_str().ok()?.split('.').nth(1));
        let of_item = call.uri().path().trim_matches('/').contains('/');
        let plain = format!("{} {}", call.method(), if of_item { "item" } else { "bucket" });
        *self.by_operation.lock().entry(named.map_or(plain, str::to_owned)).or_default() += 1;
    }

    /// Records the permissions of a call, and returns whether one is refused.
    fn refuses(&self, parts: &hyper::http::request::Parts, body: &Bytes) -> bool {
        let asked = permissions(parts, body);
        let refused = self.refused.lock().as_ref().is_some_and(|refused| asked.contains(refused));
        self.asked.lock().extend(asked);
        refused
    }

    /// Counts a call on an item, and returns whether it must fail.
    fn fails_now<T>(&self, call: &Request<T>) -> bool {
        let path = call.uri().path();
        if !path.trim_matches('/').contains('/') {
            return false;
        }
        let mut on_items = self.on_items.lock();
        let calls = on_items.entry(format!("{} {path}", call.method())).or_default();
        *calls += 1;
        *calls <= 2
    }

    fn passed(&self) -> u64 {
        self.lots.lock().get(&Lot::Passes).copied().unwrap_or_default()
    }

    fn lot(&self, mood: Mood) -> Lot {
        let lot = match mood {
            Mood::Quiet
            | Mood::Far(_)
            | Mood::FailsTwice
            | Mood::Denies(..)
            | Mood::Archives(_)
            | Mood::SilentAbout(_)
            | Mood::SilentPuts(_)
            | Mood::Answers(..) => {
                return Lot::Passes;
            }
            Mood::Away => Lot::Unheard,
            Mood::AwayAfter(calls) if self.passed() >= calls => Lot::Unheard,
            Mood::SilentAfter(calls) if self.passed() >= calls => Lot::Unanswered,
            Mood::AwayAfter(_) | Mood::SilentAfter(_) => Lot::Passes,
            Mood::Expired => Lot::Expired,
            Mood::Troubled => match self.dice.lock().roll(48) {
                0..4 => Lot::Refused,
                4..7 => Lot::Hangs,
                7 => Lot::TimesOut,
                8..12 => Lot::AnswerLost,
                12..16 => Lot::CutOff,
                _ => Lot::Passes,
            },
        };
        *self.lots.lock().entry(lot).or_default() += 1;
        lot
    }
}

/// A current write of an item.
struct Put(Arc<State>);

impl Put {
    fn begun(state: &Arc<State>) -> Self {
        let (now, most) = &mut *state.puts.lock();
        *now += 1;
        *most = (*most).max(*now);
        Self(state.clone())
    }
}

impl Drop for Put {
    fn drop(&mut self) {
        self.0.puts.lock().0 -= 1;
    }
}

fn lost(why: &str) -> io::Error {
    io::Error::other(why.to_owned())
}

async fn answer(state: Arc<State>, call: Request<Incoming>) -> io::Result<Answer> {
    let mood = *state.mood.lock();
    let lot = state.lot(mood);
    state.count(&call);
    let fails = mood == Mood::FailsTwice && state.fails_now(&call);
    let denied = denial(mood, &call);
    let is_silent = match mood {
        Mood::SilentAbout(words) => call.uri().path().contains(words),
        Mood::SilentPuts(words) => call.method() == Method::PUT && call.uri().path().contains(words),
        _ => false,
    };
    let archived = matches!(mood, Mood::Archives(words) if call.uri().path().contains(words));
    let speaks_json = call.headers().contains_key("x-amz-target");
    let _put = (call.method() == Method::PUT).then(|| Put::begun(&state));
    let (parts, body) = call.into_parts();
    let method = parts.method.clone();
    // The whole call is read first, even one that is refused, so that its connection can be used for the next.
    let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
    if let Mood::Far(longer) = mood {
        tokio::time::sleep(longer).await;
    }
    match lot {
        Lot::Refused => Ok(told(503, String::new(), false)),
        Lot::Unheard => Err(lost("the line is dead")),
        Lot::Unanswered => std::future::pending().await,
        _ if is_silent => std::future::pending().await,
        _ if fails => Ok(told(500, String::new(), false)),
        _ if let Some((status, code)) = denied => Ok(told(status, refusal(code), false)),
        _ if archived => passed_on(state.server, parts, body).await.map(|(mut head, body)| {
            head.headers.insert("x-amz-storage-class", "GLACIER".parse().unwrap());
            whole((head, body))
        }),
        Lot::Expired => Ok(expired(speaks_json, &method)),
        Lot::Hangs | Lot::TimesOut => {
            tokio::time::sleep(Duration::from_millis(if lot == Lot::Hangs { 300 } else { 6_000 })).await;
            Err(lost("the line is dead"))
        }
        Lot::Passes if state.refuses(&parts, &body) => Ok(told(503, String::new(), false)),
        Lot::Passes => passed_on(state.server, parts, body).await.map(whole),
        Lot::AnswerLost => {
            passed_on(state.server, parts, body).await?;
            Err(lost("the answer is lost"))
        }
        Lot::CutOff => cut_off(passed_on(state.server, parts, body).await?),
    }
}

fn refusal(code: &str) -> String {
    format!("<Error><Code>{code}</Code><Message>That is not allowed.</Message></Error>")
}

/// The status and code with which the proxy answers a call itself, if it does.
fn denial<T>(mood: Mood, call: &Request<T>) -> Option<(u16, &'static str)> {
    let (path, method) = (call.uri().path(), call.method().as_str());
    match mood {
        Mood::Denies(denied, words) if method == denied && path.contains(words) => Some((403, "AccessDenied")),
        Mood::Archives(words) if method == "GET" && path.contains(words) => Some((403, "InvalidObjectState")),
        Mood::Answers(asked, words, status, code) if method.starts_with(asked) && path.contains(words) => {
            Some((status, code))
        }
        _ => None,
    }
}

/// Forwards the call to the server.
pub(crate) async fn passed_on(
    server: SocketAddr,
    mut parts: hyper::http::request::Parts,
    body: Bytes,
) -> io::Result<(hyper::http::response::Parts, Bytes)> {
    // This proxy has answered the client's `Expect` header already.
    parts.headers.remove("expect");
    let socket = TcpStream::connect(server).await?;
    socket.set_nodelay(true)?;
    let line = hyper::client::conn::http1::Builder::new().max_headers(1_024).handshake(TokioIo::new(socket)).await;
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

fn cut_off((parts, body): (hyper::http::response::Parts, Bytes)) -> io::Result<Answer> {
    if body.is_empty() {
        // The headers alone would be the whole response.
        return Err(lost("the line is dead"));
    }
    let half = Frame::data(body.slice(..body.len() / 2));
    let pieces = futures::stream::iter([Ok(half), Err(lost("the line is dead"))]);
    Ok(Response::from_parts(parts, BodyExt::boxed(StreamBody::new(pieces))))
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

#[test]
fn a_third_of_all_calls_has_trouble_that_the_client_sees() {
    let (world, proxy) = (World::new(), Proxy::before(ministack(), 5));
    proxy.set(Mood::Troubled);
    let script = format!(
        "from concurrent.futures import ThreadPoolExecutor
direct = client('s3', '{}')
direct.create_bucket(Bucket='asked')
direct.put_object(Bucket='asked', Key='there', Body=b'x' * 1000)
url = client('sqs', '{}').create_queue(QueueName='asked')['QueueUrl']
def once(service):
    settings = Config(retries={{'total_max_attempts': 1}}, max_pool_connections=100, s3={{'addressing_style': 'path'}})
    return boto3.client(service, endpoint_url='{}', aws_access_key_id='test', aws_secret_access_key='test',
                        region_name='us-east-1', config=settings)
s3, sqs = once('s3'), once('sqs')
def fails(call):
    try: call()
    except Exception: return 1
    return 0
calls = [lambda: s3.put_object(Bucket='asked', Key='new', Body=b'x'),
         lambda: s3.head_object(Bucket='asked', Key='there'),
         lambda: s3.get_object(Bucket='asked', Key='there')['Body'].read(),
         lambda: s3.delete_object(Bucket='asked', Key='new'),
         lambda: sqs.send_message(QueueUrl=url, MessageBody='x')]
with ThreadPoolExecutor(100) as pool:
    for failed in [[pool.submit(fails, call) for _ in range({CALLS})] for call in calls]:
        print(sum(one.result() for one in failed))",
        ministack(),
        ministack(),
        proxy.address()
    );
    let seen: Vec<u64> = boto(&world, &script).lines().map(|line| line.parse().unwrap()).collect();
    let mut lots = proxy.lots();
    println!("of {CALLS} calls of each kind {seen:?} failed; {lots:?}");
    let passed = lots.remove(&Lot::Passes).unwrap();
    assert_eq!(seen.iter().sum::<u64>(), lots.values().sum::<u64>(), "all trouble is seen");
    assert_eq!(passed + lots.values().sum::<u64>(), 5 * CALLS);
    for failed in seen {
        assert!((CALLS / 5..CALLS / 2).contains(&failed), "{failed} of {CALLS}");
    }
}
