//! The OpenAPI description of the HTTP API.

/// The document. Tests compare it with the routes and with the fields of a request.
pub(super) const OPENAPI: &str = include_str!("openapi.json");
