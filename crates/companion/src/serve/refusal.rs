//! A fault on its way out: for our page and programs as it is, for OpenAI's clients in their words.

use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::http::StatusCode;
use axum::http::header::{HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::response::{IntoResponse, Response};
use pixart_protocol::{Fault, FaultCode};
use serde_json::{Value, json};

pub(super) struct Refusal {
    status: StatusCode,
    fault: Fault,
    retry_after: Option<u64>,
}

impl Refusal {
    pub(super) fn of(status: StatusCode, fault: Fault) -> Self {
        Self { status, fault, retry_after: None }
    }

    /// A path or a method that there is not.
    pub(super) fn none(status: StatusCode) -> Self {
        let what = format!("the companion has nothing here ({status})");
        Self::of(status, Fault::new(FaultCode::BadRequest, what, "see /v1/openapi.json for what it has"))
    }

    pub(super) fn unreadable(what: &str, rejection: &JsonRejection, remedy: &str) -> Self {
        let what = format!("the body is not {what}: {}", rejection.body_text());
        Self::of(rejection.status(), Fault::new(FaultCode::BadRequest, what, remedy))
    }

    pub(super) fn retry_after(self, seconds: u64) -> Self {
        Self { retry_after: Some(seconds), ..self }
    }
}

impl From<Fault> for Refusal {
    fn from(fault: Fault) -> Self {
        let status = match fault.code {
            FaultCode::BadRequest => StatusCode::BAD_REQUEST,
            FaultCode::Busy => StatusCode::TOO_MANY_REQUESTS,
            FaultCode::Companion => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self::of(status, fault)
    }
}

/// The fault, and what OpenAI's clients make an exception of.
pub(super) fn body(status: StatusCode, fault: &Fault) -> Value {
    let kind = match status {
        StatusCode::UNAUTHORIZED => "authentication_error",
        StatusCode::FORBIDDEN => "permission_error",
        StatusCode::TOO_MANY_REQUESTS => "rate_limit_error",
        status if status.is_client_error() => "invalid_request_error",
        _ => "server_error",
    };
    let Fault { code, what, remedy } = fault;
    let error = json!({ "message": format!("{what}; {remedy}"), "type": kind, "code": code, "param": null });
    json!({ "code": code, "what": what, "remedy": remedy, "error": error })
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let Self { status, fault, retry_after } = self;
        if status != StatusCode::TOO_MANY_REQUESTS {
            tracing::warn!(status = status.as_u16(), %fault, "refused");
        }
        let mut response = (status, Json(body(status, &fault))).into_response();
        let headers = response.headers_mut();
        if let Some(seconds) = retry_after {
            headers.insert(RETRY_AFTER, seconds.into());
        }
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}
