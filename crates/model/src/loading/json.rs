//! A JSON configuration file, read key by key. A key that is absent has the default of diffusers' constructor; `null` is a
//! value, as in Python. Unknown keys are ignored, as by diffusers.

use std::ops::RangeInclusive;

use pixart_weights::Folder;
use serde_json::{Map, Value};

use crate::Error;

/// A JSON configuration file.
pub(crate) struct Json {
    file: String,
    values: Map<String, Value>,
}

impl Json {
    pub(crate) fn read(folder: &Folder, file: &str) -> Result<Self, Error> {
        let bad = |why: String| Error::Config { file: file.into(), key: "(whole file)".into(), why };
        let text = std::str::from_utf8(folder.bytes(file)?).map_err(|error| bad(error.to_string()))?;
        // Python writes bare infinities, which JSON does not allow. An infinite bound is no bound.
        let text = text.trim_start_matches('\u{feff}').replace(": -Infinity", ": null").replace(": Infinity", ": null");
        match serde_json::from_str(&text).map_err(|error| bad(error.to_string()))? {
            Value::Object(values) => Ok(Self { file: file.into(), values }),
            _ => Err(bad("it is not a JSON object".into())),
        }
    }

    pub(crate) fn error(&self, key: &str, why: impl Into<String>) -> Error {
        Error::Config { file: self.file.clone(), key: key.into(), why: why.into() }
    }

    /// Returns all keys and values.
    pub(crate) fn values(&self) -> &Map<String, Value> {
        &self.values
    }

    pub(crate) fn contains(&self, key: &str) -> bool {
        self.values.contains_key(key)
    }

    /// Returns the value of `key`, with `null` as none.
    pub(crate) fn optional(&self, key: &str) -> Option<&Value> {
        self.values.get(key).filter(|value| !value.is_null())
    }

    /// Returns an integer within `range`, or `default` where the key is absent.
    pub(crate) fn count(&self, key: &str, default: usize, range: RangeInclusive<usize>) -> Result<usize, Error> {
        let Some(value) = self.values.get(key) else { return Ok(default) };
        let count = value.as_u64().and_then(|count| usize::try_from(count).ok()).filter(|count| range.contains(count));
        let why = || format!("{value} is not an integer from {} to {}", range.start(), range.end());
        count.ok_or_else(|| self.error(key, why()))
    }

    /// Returns a channel count up to `most`, which must be a multiple of 4: kernels read `vec4`s.
    pub(crate) fn channels(&self, key: &str, default: usize, most: usize) -> Result<usize, Error> {
        let count = self.count(key, default, 1..=most)?;
        if count.is_multiple_of(4) {
            Ok(count)
        } else {
            Err(self.error(key, format!("{count} is not a multiple of 4")))
        }
    }

    /// Returns a list of integers, or `default` where the key is absent.
    pub(crate) fn counts(&self, key: &str, default: &[usize]) -> Result<Vec<usize>, Error> {
        let Some(value) = self.values.get(key) else { return Ok(default.to_vec()) };
        let count = |item: &Value| item.as_u64().and_then(|count| usize::try_from(count).ok());
        let list = value.as_array().and_then(|list| list.iter().map(count).collect());
        list.ok_or_else(|| self.error(key, format!("{value} is not a list of integers")))
    }

    /// Returns a number above 0, or `default` where the key is absent.
    pub(crate) fn positive(&self, key: &str, default: f64) -> Result<f64, Error> {
        let Some(value) = self.values.get(key) else { return Ok(default) };
        let number = value.as_f64().filter(|number| *number > 0.0 && number.is_finite());
        number.ok_or_else(|| self.error(key, format!("{value} is not a number above 0")))
    }

    /// Returns a list of lists of numbers, or none if the key is missing.
    pub(crate) fn rows(&self, key: &str) -> Result<Option<Vec<Vec<f32>>>, Error> {
        let Some(value) = self.optional(key) else { return Ok(None) };
        let rows = serde_json::from_value(value.clone());
        rows.map(Some).map_err(|error| self.error(key, format!("it is not a list of lists of numbers: {error}")))
    }

    pub(crate) fn flag(&self, key: &str) -> Result<Option<bool>, Error> {
        let Some(value) = self.optional(key) else { return Ok(None) };
        value.as_bool().map(Some).ok_or_else(|| self.error(key, format!("{value} is not true or false")))
    }

    pub(crate) fn text(&self, key: &str) -> Result<&str, Error> {
        let value = self.optional(key).ok_or_else(|| self.error(key, "the key is missing"))?;
        value.as_str().ok_or_else(|| self.error(key, format!("{value} is not a string")))
    }

    /// Returns an error unless the value of `key`, which is `default` where the key is absent, is `supported`. `null` is false,
    /// as in Python.
    pub(crate) fn require(
        &self,
        key: &str,
        default: impl Into<Value>,
        supported: impl Into<Value>,
    ) -> Result<(), Error> {
        let (default, supported) = (default.into(), supported.into());
        let (value, note) = match self.values.get(key) {
            Some(value) => (value, ""),
            None => (&default, ", the default,"),
        };
        if *value == supported || (value.is_null() && supported == Value::Bool(false)) {
            return Ok(());
        }
        Err(self.error(key, format!("{value}{note} is not supported, only {supported}")))
    }

    /// Returns an error unless every item of the list `key` is `supported`; nothing is checked where the key is absent.
    pub(crate) fn require_items(&self, key: &str, supported: &str, count: usize) -> Result<(), Error> {
        let Some(value) = self.values.get(key) else { return Ok(()) };
        let items = value.as_array().map(Vec::as_slice).unwrap_or_default();
        if items.len() == count && items.iter().all(|item| item == supported) {
            return Ok(());
        }
        Err(self.error(key, format!("{value} is not supported, only {count} times \"{supported}\"")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Json, Error> {
        let mut folder = Folder::default();
        folder.insert("a.json", text.as_bytes().to_vec());
        Json::read(&folder, "a.json")
    }

    #[test]
    fn bare_infinities_are_read_as_null() {
        let json = read("{\"lambda_min_clipped\": -Infinity, \"n\": 3}").expect("it is an object");
        assert_eq!(json.count("n", 1, 1..=9).expect("n is there"), 3);
        assert_eq!(json.optional("lambda_min_clipped"), None);
    }

    #[test]
    fn a_file_that_is_no_object_is_refused() {
        for text in ["[]", "3", "null", "", "{"] {
            let error = read(text).err().expect(text).to_string();
            assert!(error.starts_with("a.json: `(whole file)`: "), "{error}");
        }
    }

    #[test]
    fn a_value_that_is_no_count_is_refused_by_name() {
        for value in ["0", "-1", "1.0", "10", "1e99", "18446744073709551615", "\"4\"", "null", "[4]", "true"] {
            let json = read(&format!("{{\"n\": {value}}}")).expect("it is an object");
            let error = json.count("n", 1, 1..=9).expect_err(value).to_string();
            assert!(error.starts_with("a.json: `n`: ") && error.ends_with("is not an integer from 1 to 9"), "{error}");
        }
    }
}
