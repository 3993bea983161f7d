//! Settings of a scheduler: the keys of `scheduler_config.json`, overridden by those in a request's text. A scheduler
//! reads the keys it knows, each with its own default, and so keeps another scheduler's settings that both have: the
//! meaning of diffusers' `from_config`. A key of a request that no scheduler read is an error of the request. `null` is a
//! value as in Python: false for a flag, and no number or word.

use std::cell::RefCell;
use std::collections::BTreeSet;

use serde_json::{Map, Value};

/// Most training timesteps and other counts that are accepted.
const COUNT_MAX: u64 = 10_000;

/// A setting that a scheduler does not support, by key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct UnsupportedSetting {
    pub(super) key: String,
    pub(super) why: String,
}

impl UnsupportedSetting {
    pub(super) fn new(key: &str, why: impl Into<String>) -> Self {
        Self { key: key.into(), why: why.into() }
    }
}

/// Keys and values, with the keys that were read.
pub(super) struct ConfigReader {
    /// diffusers' class name of the scheduler that reads.
    pub(super) class: &'static str,
    values: Map<String, Value>,
    read: RefCell<BTreeSet<&'static str>>,
}

impl ConfigReader {
    pub(super) fn new(class: &'static str, values: Map<String, Value>) -> Self {
        Self { class, values, read: RefCell::default() }
    }

    /// Fails with the first of `keys` that was not read, and lists the keys that were.
    pub(super) fn unread<'a>(&self, mut keys: impl Iterator<Item = &'a str>) -> Result<(), UnsupportedSetting> {
        let read = self.read.borrow();
        keys.find(|key| !read.contains(key)).map_or(Ok(()), |key| {
            let known = read.iter().copied().collect::<Vec<_>>().join(", ");
            Err(UnsupportedSetting::new(key, format!("is not a setting of {}: it has {known}", self.class)))
        })
    }

    fn get(&self, key: &'static str) -> Option<&Value> {
        self.read.borrow_mut().insert(key);
        self.values.get(key)
    }

    /// Returns the least λ that steps may start from. Its default, a bare infinity, is read as null.
    pub(super) fn lambda_min(&self) -> Result<f64, UnsupportedSetting> {
        let key = "lambda_min_clipped";
        if self.get(key).is_some_and(Value::is_null) { Ok(f64::MIN) } else { self.number(key, f64::MIN) }
    }

    pub(super) fn number(&self, key: &'static str, default: f64) -> Result<f64, UnsupportedSetting> {
        let Some(value) = self.get(key) else { return Ok(default) };
        let number = value.as_f64().filter(|number| number.is_finite());
        number.ok_or_else(|| UnsupportedSetting::new(key, format!("{value} is not a number")))
    }

    /// Returns a whole number from `least` to [`COUNT_MAX`].
    pub(super) fn count(&self, key: &'static str, default: usize, least: usize) -> Result<usize, UnsupportedSetting> {
        let Some(value) = self.get(key) else { return Ok(default) };
        let count = value.as_u64().filter(|count| (least as u64..=COUNT_MAX).contains(count));
        let why = || UnsupportedSetting::new(key, format!("{value} is not a whole number from {least} to {COUNT_MAX}"));
        count.map(|count| count as usize).ok_or_else(why)
    }

    pub(super) fn flag(&self, key: &'static str, default: bool) -> Result<bool, UnsupportedSetting> {
        let Some(value) = self.get(key) else { return Ok(default) };
        if value.is_null() {
            return Ok(false);
        }
        value.as_bool().ok_or_else(|| UnsupportedSetting::new(key, format!("{value} is not true or false")))
    }

    /// Returns the meaning of one of `words`; of the first where the key is absent.
    pub(super) fn word<T: Copy>(&self, key: &'static str, words: &[(&str, T)]) -> Result<T, UnsupportedSetting> {
        let Some(value) = self.get(key) else { return Ok(words[0].1) };
        let found = words.iter().find(|(word, _)| value.as_str() == Some(word));
        found.map(|(_, meaning)| *meaning).ok_or_else(|| {
            let known = words.iter().map(|(word, _)| *word).collect::<Vec<_>>().join(", ");
            UnsupportedSetting::new(key, format!("{value} is not supported, only {known}"))
        })
    }

    /// [`ConfigReader::word`], with `null` as an absent key.
    pub(super) fn optional_word<T: Copy>(
        &self,
        key: &'static str,
        words: &[(&str, T)],
    ) -> Result<T, UnsupportedSetting> {
        if self.get(key).is_some_and(Value::is_null) { Ok(words[0].1) } else { self.word(key, words) }
    }

    /// Fails where a setting is on that is not implemented. Absent, null, false and an empty list are off.
    pub(super) fn off(&self, key: &'static str) -> Result<(), UnsupportedSetting> {
        match self.get(key) {
            None | Some(Value::Null | Value::Bool(false)) => Ok(()),
            Some(Value::Array(list)) if list.is_empty() => Ok(()),
            Some(value) => Err(UnsupportedSetting::new(key, format!("{value} is not supported, only false"))),
        }
    }
}
