//! Error responses: a [`Fault`] as JSON, with the error object that OpenAI's clients expect beside it.

use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::http::StatusCode;
use axum::http::header::{HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::response::{IntoResponse, Response};
use pixart_protocol::{Fault, FaultCode};
use serde_json::{Value, json};

/// A fault with its HTTP status.
pub(super) struct ApiError {
    status: StatusCode,
    fault: Fault,
    retry_after: Option<u64>,
}

impl ApiError {
    pub(super) fn new(status: StatusCode, fault: Fault) -> Self {
        Self { status, fault, retry_after: None }
    }

    /// Error of an unknown path or method.
    pub(super) fn not_found(status: StatusCode) -> Self {
        let what = format!("the companion has no such route ({status})");
        Self::new(status, Fault::new(FaultCode::BadRequest, what, "see /v1/openapi.json for its routes"))
    }

    /// Error of a body that is not `expected`.
    pub(super) fn invalid_body(expected: &str, rejection: &JsonRejection, remedy: &str) -> Self {
        let what = format!("the body is not {expected}: {}", rejection.body_text());
        Self::new(rejection.status(), Fault::new(FaultCode::BadRequest, what, remedy))
    }

    pub(super) fn retry_after(self, seconds: u64) -> Self {
        Self { retry_after: Some(seconds), ..self }
    }
}

impl From<Fault> for ApiError {
    fn from(fault: Fault) -> Self {
        let status = match fault.code {
            FaultCode::BadRequest => StatusCode::BAD_REQUEST,
            FaultCode::Busy => StatusCode::TOO_MANY_REQUESTS,
            FaultCode::Companion => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self::new(status, fault)
    }
}

/// The JSON body of an error: the fault's fields, and `error` in OpenAI's format.
pub(super) fn error_body(status: StatusCode, fault: &Fault) -> Value {
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

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let Self { status, fault, retry_after } = self;
        if status != StatusCode::TOO_MANY_REQUESTS {
            tracing::warn!(status = status.as_u16(), %fault, "request rejected");
        }
        let mut response = (status, Json(error_body(status, &fault))).into_response();
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
