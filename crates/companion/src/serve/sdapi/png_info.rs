//! `POST /sdapi/v1/png-info`: the texts of a PNG file, and the generation parameters among them.

use std::collections::BTreeMap;
use std::io::Cursor;

use axum::Json;
use axum::extract::rejection::JsonRejection;
use pixart_protocol::{Fault, FaultCode};
use serde_json::{Map, Value, json};

use crate::serve::api_error::ApiError;
use crate::serve::base64_input;
use crate::serve::fields::{read_object, take};

/// Keyword of the generation parameters.
const PARAMETERS: &str = "parameters";
/// Fewest fields of a line of generation parameters.
const FIELDS_MIN: usize = 3;

pub(super) async fn png_info(body: Result<Json<Value>, JsonRejection>) -> Result<Json<Value>, ApiError> {
    let remedy = r#"send {"image": "..."}, a PNG file in base64, as application/json"#;
    let mut fields = read_object(body, "an object with an image", remedy)?;
    let file = take(&mut fields, "image").and_then(|image| base64_input::decode(image.value.as_str()?));
    // Decompressing megabytes of text would block the other connections.
    let texts = tokio::task::spawn_blocking(move || file.and_then(|file| texts(&file)));
    let Some(mut texts) = texts.await.expect("reading a PNG does not panic") else {
        let fault = Fault::new(FaultCode::BadRequest, "`image` is no PNG file in base64", remedy);
        return Err(ApiError::from(fault).parameter("image", "invalid_value"));
    };
    let info = texts.remove(PARAMETERS).unwrap_or_default();
    Ok(Json(json!({ "parameters": parse(&info), "info": info, "items": texts })))
}

/// Texts of a PNG file by their keywords; `None` where it is no PNG.
pub(super) fn texts(file: &[u8]) -> Option<BTreeMap<String, String>> {
    let reader = png::Decoder::new(Cursor::new(file)).read_info().ok()?;
    let info = reader.info();
    let plain = info.uncompressed_latin1_text.iter().map(|chunk| (chunk.keyword.clone(), chunk.text.clone()));
    let compressed = info.compressed_latin1_text.iter();
    let compressed = compressed.filter_map(|chunk| Some((chunk.keyword.clone(), chunk.get_text().ok()?)));
    let international = info.utf8_text.iter().filter_map(|chunk| Some((chunk.keyword.clone(), chunk.get_text().ok()?)));
    Some(plain.chain(compressed).chain(international).collect())
}

/// Reads generation parameters as AUTOMATIC1111 does: lines of the prompt, of the negative prompt, and one of fields.
fn parse(info: &str) -> Map<String, Value> {
    let mut parsed = Map::new();
    if info.is_empty() {
        return parsed;
    }
    let (texts, last) = info.trim().rsplit_once('\n').unwrap_or(("", info.trim()));
    let fields = fields(last);
    let (texts, fields) = if fields.len() < FIELDS_MIN { (info.trim(), Vec::new()) } else { (texts, fields) };
    let (prompt, negative) = match texts.strip_prefix("Negative prompt:") {
        Some(negative) => ("", negative),
        None => texts.split_once("\nNegative prompt:").unwrap_or((texts, "")),
    };
    parsed.insert("Prompt".into(), prompt.trim().into());
    parsed.insert("Negative prompt".into(), negative.trim().into());
    for (name, value) in fields {
        let side = |text: &str| text.parse::<u32>().ok();
        if let Some((width, height)) =
            value.split_once('x').and_then(|(width, height)| Some((side(width)?, side(height)?)))
        {
            parsed.insert(format!("{name}-1"), width.to_string().into());
            parsed.insert(format!("{name}-2"), height.to_string().into());
        } else {
            parsed.insert(name, value.into());
        }
    }
    parsed
}

/// Pairs of `name: value` between commas; a value that starts with a quotation mark is JSON.
fn fields(line: &str) -> Vec<(String, String)> {
    let (mut fields, mut rest) = (Vec::new(), line);
    while let Some((name, after)) = rest.split_once(':') {
        let after = after.trim_start();
        let mut json = serde_json::Deserializer::from_str(after).into_iter::<String>();
        let (value, end) = match after.starts_with('"').then(|| json.next()) {
            Some(Some(Ok(text))) => (text, json.byte_offset()),
            _ => {
                let end = after.find(',').unwrap_or(after.len());
                (after[..end].trim().to_owned(), end)
            }
        };
        fields.push((name.trim().to_owned(), value));
        rest = after[end..].trim_start().trim_start_matches(',').trim_start();
    }
    fields
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generation_parameters_are_parsed_as_by_automatic1111() {
        let info = "a fox,\nred\nNegative prompt: blur\nSteps: 20, Sampler: euler, CFG scale: 4.5, Size: 64x32, \
                    Model: \"a, \\\"b\\\": c\", Version: v1";
        let expected = json!({
            "Prompt": "a fox,\nred", "Negative prompt": "blur", "Steps": "20", "Sampler": "euler", "CFG scale": "4.5",
            "Size-1": "64", "Size-2": "32", "Model": "a, \"b\": c", "Version": "v1",
        });
        assert_eq!(Value::Object(parse(info)), expected);
        assert_eq!(Value::Object(parse("")), json!({}));
        let bare = json!({ "Prompt": "time: 12:30", "Negative prompt": "" });
        assert_eq!(Value::Object(parse("time: 12:30")), bare, "a prompt without fields is a prompt");
    }

    #[test]
    fn hostile_parameters_are_parsed_to_something() {
        for text in [
            ":",
            ",,,:::",
            "a: \"",
            "a: \"\\",
            "a: \"b\"c: d, e: f, g: h",
            "é: ü, é: ü, é: \"ü\"",
            "\n\n\n",
            "a:,b:,c:,",
        ] {
            parse(text);
        }
    }
}
