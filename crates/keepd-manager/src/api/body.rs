//! Bodies of requests.

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use serde::de::DeserializeOwned;

use super::problem::Failure;
use super::types::ProblemCode;

/// The longest body that is read.
pub(super) const BODY_BYTES_MAX: usize = 1024 * 1024;

/// The longest word of an asker. It is written into a note, for a successor of this manager.
const TOKEN_BYTES_MAX: usize = 256;

/// A body, or why it cannot be had.
pub(super) type Body = Result<Bytes, BytesRejection>;

/// Reads a body as JSON.
pub(super) fn parse<T: DeserializeOwned>(body: Body) -> Result<T, Failure> {
    let bytes = bytes(body)?;
    serde_json::from_slice(&bytes)
        .map_err(|error| Failure::usage(format!("cannot read the body as JSON: {error}")))
}

/// Reads a body as JSON; an empty one is the default.
pub(super) fn parse_or_default<T: DeserializeOwned + Default>(body: Body) -> Result<T, Failure> {
    let bytes = bytes(body)?;
    if bytes.is_empty() { Ok(T::default()) } else { parse(Ok(bytes)) }
}

/// Refuses a word by which nobody could recognise the request again.
pub(super) fn check_token(token: Option<&str>) -> Result<(), Failure> {
    match token {
        Some("") => Err(Failure::usage("cannot use the token: it is empty")
            .with_hint("leave it out, or choose a word that nobody else does")),
        Some(long) if long.len() > TOKEN_BYTES_MAX => {
            let detail = format!("cannot use the token: it has more than {TOKEN_BYTES_MAX} bytes");
            Err(Failure::usage(detail))
        }
        Some(_) | None => Ok(()),
    }
}

fn bytes(body: Body) -> Result<Bytes, Failure> {
    body.map_err(|rejection| {
        let status = rejection.into_response().status();
        let detail = if status == StatusCode::PAYLOAD_TOO_LARGE {
            format!("cannot read the body: it has more than {BODY_BYTES_MAX} bytes")
        } else {
            "cannot read the body: the connection was cut".to_owned()
        };
        Failure::with_status(ProblemCode::Usage, status, detail)
    })
}
