//! Paths by which people sign out of an application itself, as `/.authferry/logout` answers, and what the application adds to it.

use bytes::Bytes;
use http::Method;
use http::Response;
use http::header;

use crate::auth::SigningOut;
use crate::clock::UnixTime;
use crate::proxy::admission::Asked;
use crate::proxy::admission::authority;
use crate::proxy::client_body::ClientBody;
use crate::proxy::conn::Conn;
use crate::proxy::record::Record;
use crate::proxy::reply::Reply;
use crate::proxy::reply::page;
use crate::proxy::upstream::Answer;

/// Whose a request is. Most applications have no such path.
pub(super) fn signing_out(asked: &Asked<'_>) -> SigningOut {
    let policy = &asked.entry.policy;
    if !policy.signs_out_at(asked.request.path()) {
        return SigningOut::Theirs;
    }
    let authority = authority(asked.request);
    let logins = &asked.view.snapshot.logins;
    logins.signing_out(policy, &asked.login(&authority), asked.kill, asked.now)
}

/// Our answer. Revocations are dated to the millisecond, and so is what ends here.
pub(super) async fn signs_out(asked: &Asked<'_>, now: UnixTime) -> Response<Bytes> {
    let policy = &asked.entry.policy;
    let authority = authority(asked.request);
    let request = asked.login(&authority);
    let logins = &asked.view.snapshot.logins;
    logins.signs_out(policy, &request, asked.kill, now).await
}

/// Whether the application says by this answer that somebody has signed out there. A page that it shows to whoever opens the
/// address, and that sets no cookie, may ask about it first.
pub(super) fn has_signed_out(asked: &Asked<'_>, answer: &Answer<ClientBody>) -> bool {
    let status = answer.status();
    if asked.request.method() == Method::POST {
        return status.as_u16() < 400;
    }
    status.is_redirection() || (status.is_success() && !answer.cookies().is_empty())
}

/// Our answer in the place of the application's, with the cookies that it sets: they may end a session of its own.
pub(super) async fn after_the_application(
    asked: &Asked<'_>,
    answer: Answer<ClientBody>,
    conn: &Conn,
    record: Box<Record>,
) -> Reply {
    record.sent.unpace();
    let theirs = answer.cookies();
    drop(answer);
    let mut response = signs_out(asked, record.worker.now_exactly()).await;
    for cookie in theirs {
        response.headers_mut().append(header::SET_COOKIE, cookie);
    }
    page(response, conn, record)
}
