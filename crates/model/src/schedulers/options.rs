//! The settings of a scheduler: the keys of its `scheduler_config.json`, with what a request's text puts over them. A
//! scheduler reads the keys it knows, each with its own default, and so takes over from another's file what both have:
//! the meaning of diffusers' `from_config`. A request's key that no one read is a mistake of the request.

use std::cell::RefCell;
use std::collections::BTreeSet;

use serde_json::{Map, Value};

/// What a scheduler cannot do, by the key that asked for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refused {
    pub(super) key: String,
    pub(super) why: String,
}

impl Refused {
    pub(super) fn new(key: &str, why: impl Into<String>) -> Self {
        Self { key: key.into(), why: why.into() }
    }
}

/// Keys and values, and which of the keys were read.
pub(super) struct Options {
    /// diffusers' name of the scheduler that reads.
    pub(super) class: &'static str,
    values: Map<String, Value>,
    read: RefCell<BTreeSet<&'static str>>,
}

impl Options {
    pub(super) fn new(class: &'static str, values: Map<String, Value>) -> Self {
        Self { class, values, read: RefCell::default() }
    }

    /// The first of `keys` that was not read, with those that were.
    pub(super) fn unread<'a>(&self, mut keys: impl Iterator<Item = &'a str>) -> Result<(), Refused> {
        let read = self.read.borrow();
        keys.find(|key| !read.contains(key)).map_or(Ok(()), |key| {
            let known = read.iter().copied().collect::<Vec<_>>().join(", ");
            Err(Refused::new(key, format!("is not a setting of {}: it has {known}", self.class)))
        })
    }

    fn get(&self, key: &'static str) -> Option<&Value> {
        self.read.borrow_mut().insert(key);
        self.values.get(key).filter(|value| !value.is_null())
    }

    pub(super) fn number(&self, key: &'static str, default: f64) -> Result<f64, Refused> {
        let Some(value) = self.get(key) else { return Ok(default) };
        let number = value.as_f64().filter(|number| number.is_finite());
        number.ok_or_else(|| Refused::new(key, format!("{value} is not a number")))
    }

    /// A whole number of at least `least`.
    pub(super) fn count(&self, key: &'static str, default: usize, least: usize) -> Result<usize, Refused> {
        let Some(value) = self.get(key) else { return Ok(default) };
        let count = value.as_u64().filter(|count| *count >= least as u64);
        let why = || Refused::new(key, format!("{value} is not a whole number from {least} up"));
        count.map(|count| count as usize).ok_or_else(why)
    }

    pub(super) fn flag(&self, key: &'static str, default: bool) -> Result<bool, Refused> {
        let Some(value) = self.get(key) else { return Ok(default) };
        value.as_bool().ok_or_else(|| Refused::new(key, format!("{value} is not true or false")))
    }

    /// One of `words`; the first where the key is absent.
    pub(super) fn word<T: Copy>(&self, key: &'static str, words: &[(&str, T)]) -> Result<T, Refused> {
        let Some(value) = self.get(key) else { return Ok(words[0].1) };
        let found = words.iter().find(|(word, _)| value.as_str() == Some(word));
        found.map(|(_, meaning)| *meaning).ok_or_else(|| {
            let known = words.iter().map(|(word, _)| *word).collect::<Vec<_>>().join(", ");
            Refused::new(key, format!("{value} is not supported, only {known}"))
        })
    }

    /// Refuses a setting that is on and is not built.
    pub(super) fn off(&self, key: &'static str) -> Result<(), Refused> {
        match self.get(key) {
            Some(value) if *value != Value::Bool(false) => {
                Err(Refused::new(key, format!("{value} is not supported, only false")))
            }
            _ => Ok(()),
        }
    }
}
