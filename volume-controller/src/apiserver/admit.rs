//! The way of every request to what it asks for: who sends it, as whom, whether they may, whether
//! there is room, and the audit log's note of all this.

use std::net::IpAddr;
use std::sync::Arc;

use axum::body::{Body, HttpBody};
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::{HeaderValue, Method, StatusCode, header};
use jiff::Timestamp;

use super::audit::{Event, Level};
use super::connection::Known;
use super::limits::{NoRoom, Permit};
use super::peer::Peer;
use super::rbac::Decision;
use super::rbac::attributes::Attributes;
use super::status::ApiError;
use super::unread::{self, Noted};
use super::user::{MASTERS, User};
use super::{Api, admin, body, impersonation};

/// Where a request comes from, over a network.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Source(pub(crate) IpAddr);

/// What was found out before a request is done.
#[derive(Default)]
struct Judged {
    sender: Option<User>,
    user: Option<Arc<User>>,
    decision: Option<Decision>,
    /// Held until the answer has been taken.
    permit: Option<Permit>,
}

/// The largest answer that is written down, in bytes; what upstream cuts off with `--audit-log-truncate-enabled`.
const LARGEST: usize = 10 << 20;

/// Every request of every path goes through here.
pub(crate) async fn admit(State(api): State<Arc<Api>>, request: Request, next: Next) -> Response {
    let received = Timestamp::now();
    let mut judged = Judged::default();
    let outcome = judge(&api, &request, &mut judged);
    let (permit, version) = (judged.permit.take(), request.version());
    let Some(audit) = &api.audit else {
        return unread::hold(go_on(outcome, judged, request, next).await, permit, version);
    };
    let asked = Attributes::of(request.method(), request.uri());
    let anonymous = User::default();
    let level = audit.level(judged.sender.as_ref().unwrap_or(&anonymous), &asked);
    if level == Level::None {
        return unread::hold(go_on(outcome, judged, request, next).await, permit, version);
    }
    let mut event = Event::new(request.method(), request.uri(), request.headers(), &asked, received);
    describe(&mut event, &judged, &request);
    let is_streamed = asked.verb == "watch" || request.uri().path() == admin::BACKUP_PATH;
    let noting = Noting { api: api.clone(), event, level, is_streamed };
    let work = noted(noting, outcome, judged, request, next);
    let done = audit.finish(async move { unread::hold(work.await, permit, version) }).await;
    done.unwrap_or_else(|| {
        ApiError::Internal("the request was not done to its end".to_owned()).into_response()
    })
}

/// Who sends a request, as whom, whether they may, and room for it.
fn judge(api: &Api, request: &Request, judged: &mut Judged) -> Result<(), ApiError> {
    let headers = request.headers();
    let peer = request.extensions().get::<Peer>().unwrap_or(&Peer::Unknown);
    let sender = api.authenticator.user(peer, headers, Timestamp::now())?;
    let has_proof = peer.is_known() || headers.contains_key(header::AUTHORIZATION);
    if api.audit.is_some() {
        judged.sender = Some(sender.clone());
    }
    if let Some(known) = request.extensions().get::<Known>().filter(|_| has_proof) {
        known.set(&api.limits, &sender)?;
    }
    let user = Arc::new(impersonation::user(&api.access, sender, headers)?);
    judged.user = Some(user.clone());
    let asked = Attributes::of(request.method(), request.uri());
    let is_reading = matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS);
    let is_short = asked.verb != "watch" && !admin::is_long_running(request.uri().path());
    // Who may do everything is not asked what, and has room even when nobody else has.
    if user.is_in(MASTERS) {
        judged.decision = Some(Decision { allowed: true, reason: String::new() });
        judged.permit = is_short.then(|| api.limits.enter_always(is_reading));
        return Ok(());
    }
    let decision = api.access.decide(&user, &asked);
    let denied = (!decision.allowed).then(|| asked.denied(&user, &decision.reason));
    judged.decision = Some(decision);
    if let Some(denied) = denied {
        return Err(denied);
    }
    if is_short {
        judged.permit = Some(api.limits.enter(&user.name, is_reading)?);
    } else if asked.verb == "watch" {
        judged.permit = Some(api.limits.watch(&user.name)?);
    }
    Ok(())
}

async fn go_on(outcome: Result<(), ApiError>, judged: Judged, mut request: Request, next: Next) -> Response {
    match (outcome, judged.user) {
        (Ok(()), Some(user)) => {
            request.extensions_mut().insert(user);
            next.run(request).await
        }
        (Ok(()), None) => refuse(ApiError::Unauthorized, request).await,
        (Err(error), _) => refuse(error, request).await,
    }
}

async fn refuse(error: ApiError, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    body::pass_over(&parts.headers, body).await;
    error.into_response()
}

fn describe(event: &mut Event, judged: &Judged, request: &Request) {
    if let Some(Source(address)) = request.extensions().get() {
        event.sent_from(*address);
    }
    if let Some(sender) = &judged.sender {
        event.sent_by(sender);
        if let Some(user) = judged.user.as_deref().filter(|user| *user != sender) {
            event.done_as(user);
        }
    }
    if let Some(decision) = &judged.decision {
        event.decided(decision);
    }
}

/// What is to be noted of a request.
struct Noting {
    api: Arc<Api>,
    event: Event,
    level: Level,
    /// Whether it is noted when it begins.
    is_streamed: bool,
}

/// Does a request, and notes what came of it. What is noted of bodies is in memory until it is written, and of an
/// answer until the client has taken it: large ones are left out while others have the room.
async fn noted(
    noting: Noting,
    outcome: Result<(), ApiError>,
    judged: Judged,
    request: Request,
    next: Next,
) -> Response {
    let Noting { api, mut event, level, is_streamed } = noting;
    let mut request = request;
    let mut outcome = outcome;
    let mut sent_room = None;
    // Bodies of those who may not are not even read.
    if level >= Level::Request && outcome.is_ok() && !matches!(*request.method(), Method::GET | Method::HEAD)
    {
        let (parts, sent) = request.into_parts();
        let sent = body::read(sent).await.unwrap_or_else(|error| {
            outcome = Err(error);
            Bytes::new()
        });
        match api.limits.note(sent.len()) {
            Ok(room) => {
                event.body("requestObject", &parts.headers, &sent);
                sent_room = room;
            }
            Err(NoRoom) => event.truncated(),
        }
        request = Request::from_parts(parts, Body::from(sent));
    }
    let response = go_on(outcome, judged, request, next).await;
    let code = response.status();
    let is_error = code.is_client_error() || code.is_server_error();
    let is_wanted = level == Level::RequestResponse && (!is_streamed || is_error);
    // What has no length is no object, such as a backup, and may be larger than memory.
    let size = response.body().size_hint().exact().filter(|_| is_error || is_wanted);
    let room = match size.and_then(|bytes| usize::try_from(bytes).ok()) {
        Some(bytes) if bytes <= LARGEST => api.limits.note(bytes),
        _ => Err(NoRoom),
    };
    let mut answer = Bytes::new();
    let mut response = response;
    match room {
        Ok(room) => {
            (response, answer) = copied(response).await;
            if let Some(room) = room {
                response.extensions_mut().insert(Noted(room));
            }
        }
        Err(NoRoom) if is_wanted && size.is_some() => event.truncated(),
        Err(NoRoom) => {}
    }
    if is_wanted {
        event.body("responseObject", response.headers(), &answer);
    }
    let refusal = is_error.then(|| body::content(response.headers(), &answer)).flatten();
    event.answered(level, is_streamed, code, refusal.as_ref());
    if let Ok(id) = HeaderValue::from_str(&event.id) {
        response.headers_mut().insert(super::audit::AUDIT_ID, id);
    }
    if let Some(audit) = &api.audit {
        audit.put(event).await;
    }
    drop(sent_room);
    response
}

/// The response, and what is in it.
async fn copied(response: Response) -> (Response, Bytes) {
    let (parts, body) = response.into_parts();
    match axum::body::to_bytes(body, usize::MAX).await {
        Ok(bytes) => (Response::from_parts(parts, Body::from(bytes.clone())), bytes),
        Err(error) => {
            tracing::error!(%error, "an answer could not be read for the audit log");
            (StatusCode::INTERNAL_SERVER_ERROR.into_response(), Bytes::new())
        }
    }
}
