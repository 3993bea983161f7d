//! The file of `pixart generate --prompts`: a JSON list of prompts, each with a seed.

use std::path::Path;

use pixart_protocol::GenerateRequest;
use serde::Deserialize;

use crate::Error;

/// An entry of the list. Unknown keys are ignored: other programs may store notes there.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct PromptEntry {
    pub prompt: String,
    #[serde(default)]
    pub negative_prompt: Option<String>,
    #[serde(default)]
    pub seed: Option<u32>,
}

impl PromptEntry {
    /// Makes the request `id`; missing fields are taken from `common`.
    #[must_use]
    pub fn request(self, id: u32, common: &GenerateRequest) -> GenerateRequest {
        let negative_prompt = self.negative_prompt.unwrap_or_else(|| common.negative_prompt.clone());
        let seed = self.seed.unwrap_or(common.seed);
        GenerateRequest { id, prompt: self.prompt, negative_prompt, seed, ..common.clone() }
    }
}

/// Parses `json`, which was read from `path`.
///
/// # Errors
/// Text that is no list of prompts, or an empty list.
pub fn parse(path: &Path, json: &[u8]) -> Result<Vec<PromptEntry>, Error> {
    let bad = |why: String| Error::BadPrompts { path: path.to_owned(), why };
    let prompts: Vec<PromptEntry> = serde_json::from_slice(json).map_err(|error| bad(error.to_string()))?;
    if prompts.is_empty() {
        return Err(bad("the list is empty".to_owned()));
    }
    Ok(prompts)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse_text(json: &str) -> Result<Vec<PromptEntry>, Error> {
        parse(Path::new("prompts.json"), json.as_bytes())
    }

    #[test]
    fn a_prompt_needs_no_seed_and_may_carry_other_keys() {
        let prompts = parse_text(r#"[{"prompt": "a star", "seed": 3, "kind": "star"}, {"prompt": "a ring"}]"#);
        let expected = [("a star", Some(3)), ("a ring", None)].map(|(prompt, seed)| PromptEntry {
            prompt: prompt.to_owned(),
            negative_prompt: None,
            seed,
        });
        assert_eq!(prompts.expect("a good list"), expected);
    }

    #[test]
    fn an_empty_list_a_missing_prompt_and_text_are_rejected() {
        for json in ["[]", r#"[{"seed": 1}]"#, "a star", r#"[{"prompt": "a star", "seed": -1}]"#] {
            let error = parse_text(json).expect_err(json);
            assert!(error.to_string().starts_with("`prompts.json` is not a list of prompts: "), "{error}");
        }
    }
}
