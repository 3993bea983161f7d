//! Error responses: a [`Fault`] as JSON, with the error object that OpenAI's clients expect beside it.

use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::http::header::{HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse, Response};
use pixart_protocol::{Fault, FaultCode};
use serde_json::{Value, json};

/// A fault with its HTTP status.
#[derive(Debug)]
pub(super) struct ApiError {
    status: StatusCode,
    pub(super) fault: Fault,
    /// Name of the invalid field, and OpenAI's code for what is wrong with it.
    parameter: Option<(String, &'static str)>,
    retry_after: Option<u64>,
}

impl ApiError {
    pub(super) fn new(status: StatusCode, fault: Fault) -> Self {
        Self { status, fault, parameter: None, retry_after: None }
    }

    /// Error of a request to an unknown path, or of an unknown method.
    pub(super) fn no_route(status: StatusCode, method: &Method, path: &str) -> Self {
        let what = match status {
            StatusCode::METHOD_NOT_ALLOWED => format!("`{path}` does not answer the method {method}"),
            _ => format!("the companion has no route `{path}`"),
        };
        Self::new(status, Fault::new(FaultCode::BadRequest, what, "see /v1/openapi.json for its routes"))
    }

    /// Error of a body that is not JSON, or too long. `remedy` shows one that is accepted.
    pub(super) fn invalid_body(rejection: &JsonRejection, remedy: &str) -> Self {
        let text = rejection.body_text();
        // axum writes what it was doing, a colon, and the reason.
        let reason = text.split_once(": ").map_or(text.as_str(), |(_, reason)| reason);
        let (what, remedy) = match (rejection, rejection.status()) {
            (JsonRejection::MissingJsonContentType(_), _) => {
                let what = "the header `Content-Type` of the body is not `application/json`".to_owned();
                (what, "send it with `Content-Type: application/json`")
            }
            (_, StatusCode::PAYLOAD_TOO_LARGE) => (
                "the body is too long".to_owned(),
                "send at most 512 KiB, and to routes that take images at most 48 MiB",
            ),
            (JsonRejection::BytesRejection(_), _) => {
                (format!("the body did not arrive whole: {reason}"), "send the request again")
            }
            _ => (format!("the body is not JSON: {reason}"), remedy),
        };
        Self::new(rejection.status(), Fault::new(FaultCode::BadRequest, what, remedy))
    }

    /// Names the field that is invalid, and OpenAI's code for what is wrong with it.
    pub(super) fn parameter(self, name: &str, code: &'static str) -> Self {
        Self { parameter: Some((name.to_owned(), code)), ..self }
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

impl ApiError {
    /// The JSON body: the fault's fields, and `error` in OpenAI's format.
    pub(super) fn body(&self) -> Value {
        let Self { status, fault, parameter, .. } = self;
        let kind = match *status {
            StatusCode::UNAUTHORIZED => "authentication_error",
            StatusCode::FORBIDDEN => "permission_error",
            StatusCode::TOO_MANY_REQUESTS => "rate_limit_error",
            status if status.is_client_error() => "invalid_request_error",
            _ => "server_error",
        };
        let openai_code = parameter.as_ref().map(|(_, code)| *code).or(match *status {
            StatusCode::UNAUTHORIZED => Some("invalid_api_key"),
            StatusCode::TOO_MANY_REQUESTS => Some("rate_limit_exceeded"),
            _ => None,
        });
        let name = parameter.as_ref().map(|(name, _)| name);
        let Fault { code, what, remedy } = fault;
        let error = json!({ "message": format!("{what}; {remedy}"), "type": kind, "code": openai_code, "param": name });
        json!({ "code": code, "what": what, "remedy": remedy, "error": error })
    }
}

/// Extension of an error response, for routes that write errors in another format.
#[derive(Clone)]
pub(super) struct ErrorText {
    /// OpenAI's name of the kind of error.
    pub(super) kind: String,
    pub(super) fault: Fault,
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let body = self.body();
        let kind = body["error"]["type"].as_str().unwrap_or_default().to_owned();
        let error_text = ErrorText { kind, fault: self.fault.clone() };
        let Self { status, fault, retry_after, .. } = self;
        if status != StatusCode::TOO_MANY_REQUESTS {
            tracing::warn!(status = status.as_u16(), %fault, "request rejected");
        }
        let mut response = (status, Json(body)).into_response();
        response.extensions_mut().insert(error_text);
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
