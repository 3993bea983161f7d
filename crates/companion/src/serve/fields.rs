//! Fields of a JSON body, and the errors of their values.

use std::sync::LazyLock;

use axum::Json;
use axum::extract::rejection::JsonRejection;
use pixart_protocol::{Fault, FaultCode};
use serde_json::{Map, Value};

use super::api_error::ApiError;
use super::openapi::OPENAPI;

/// Characters of a value that an error shows.
const SHOWN_CHARS: usize = 60;

/// Schema of a body of `POST /v1/images/generations`, by field.
static IMAGE_FIELDS: LazyLock<Value> = LazyLock::new(|| {
    let document: Value = serde_json::from_str(OPENAPI).expect("a test reads it");
    document["components"]["schemas"]["ImageRequest"]["properties"].clone()
});

/// Reads the object of a body that is to be `expected`, without the fields that are `null`: they count as left out.
pub(super) fn read_object(
    body: Result<Json<Value>, JsonRejection>,
    expected: &str,
    remedy: &str,
) -> Result<Map<String, Value>, ApiError> {
    match body.map_err(|rejection| ApiError::invalid_body(&rejection, remedy))?.0 {
        Value::Object(mut fields) => {
            fields.retain(|_, value| !value.is_null());
            Ok(fields)
        }
        other => {
            let what = format!("the body is {}, not {expected}", shown(&other));
            Err(Fault::new(FaultCode::BadRequest, what, remedy).into())
        }
    }
}

/// A field of a body.
#[derive(Debug)]
pub(super) struct Field {
    pub(super) name: String,
    pub(super) value: Value,
}

/// Removes a field.
pub(super) fn take(fields: &mut Map<String, Value>, name: &str) -> Option<Field> {
    fields.remove(name).map(|value| Field { name: name.to_owned(), value })
}

impl Field {
    /// Error of a value that cannot be used.
    pub(super) fn invalid(&self, remedy: &str) -> ApiError {
        let what = format!("`{}` is {}", self.name, shown(&self.value));
        ApiError::from(Fault::new(FaultCode::BadRequest, what, remedy)).parameter(&self.name, "invalid_value")
    }

    /// Error of a value of the wrong type or range. `current` is today's name of the field.
    pub(super) fn invalid_type(&self, current: &str) -> ApiError {
        self.invalid(&format!("send {}", expected(&IMAGE_FIELDS[current])))
    }

    /// Error of a field that there is not.
    pub(super) fn unknown(&self) -> ApiError {
        let what = format!("there is no field `{}`", shortened(&self.name));
        let fault = Fault::new(FaultCode::BadRequest, what, "see /v1/openapi.json for the fields of a request");
        ApiError::from(fault).parameter(&self.name, "unknown_parameter")
    }
}

/// Describes what a schema accepts, in words.
fn expected(schema: &Value) -> String {
    if let Some(values) = schema["enum"].as_array() {
        let values: Vec<&str> = values.iter().filter_map(Value::as_str).collect();
        return format!("one of {}", values.join(", "));
    }
    let range = match [&schema["minimum"], &schema["maximum"]] {
        [Value::Number(least), Value::Number(most)] => format!(" from {least} to {most}"),
        _ => String::new(),
    };
    // Of a type and null, the type.
    let kind = schema["type"].as_str().or_else(|| schema["type"][0].as_str());
    match kind {
        Some("integer") => format!("a whole number{range}"),
        Some("number") => format!("a number{range}"),
        Some("boolean") => "true or false".to_owned(),
        Some("array") => format!("a list, each entry {}", expected(&schema["items"])),
        Some("string") => "a string".to_owned(),
        _ => "what /v1/openapi.json describes".to_owned(),
    }
}

/// A value as JSON, shortened.
fn shown(value: &Value) -> String {
    shortened(&value.to_string())
}

fn shortened(text: &str) -> String {
    match text.char_indices().nth(SHOWN_CHARS) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
