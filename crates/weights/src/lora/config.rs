//! The settings of an adapter: PEFT's `adapter_config.json`, or the same keys in the metadata of diffusers' files.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::{CONFIG_FILE, unsupported};
use crate::{Error, Tensors};

/// Key of a safetensors file's metadata under which diffusers saves PEFT's configuration, its keys after `transformer.`.
const METADATA: &str = "lora_adapter_metadata";
const TRANSFORMER: &str = "transformer.";
/// Values of `init_lora_weights` that leave the base weights as they are.
const PLAIN_STARTS: [&str; 3] = ["gaussian", "eva", "orthogonal"];
/// Settings whose updates are not those of LoRA.
const OFF: [&str; 13] = [
    "layer_replication",
    "use_qalora",
    "target_parameters",
    "trainable_token_indices",
    "megatron_config",
    "alora_invocation_tokens",
    "use_bdlora",
    "arrow_config",
    "kasa_config",
    "monteclora_config",
    "velora_config",
    "lora_ga_config",
    "corda_config",
];

/// The settings that merging needs.
pub(super) struct LoraConfig {
    /// α; none where the file has no settings, which means the rank.
    alpha: Option<f64>,
    /// α by module name, or by the end of one.
    alpha_pattern: BTreeMap<String, f64>,
    /// True if the scale is α/√r instead of α/r (rsLoRA).
    rank_stabilized: bool,
    /// True if the length of the merged rows is trained (DoRA).
    pub(super) use_dora: bool,
    /// True if biases are saved whole.
    saves_biases: bool,
    modules_to_save: Vec<String>,
}

impl LoraConfig {
    /// Reads the settings from a configuration file, else from the metadata of `tensors`.
    pub(super) fn read(file: Option<&[u8]>, tensors: &Tensors<'_>) -> Result<Self, Error> {
        let bad_json = |why: String| Error::BadJson { file: CONFIG_FILE.into(), why };
        let Some(text) = file.or(tensors.metadata(METADATA).map(str::as_bytes)) else {
            return Ok(Self {
                alpha: None,
                alpha_pattern: BTreeMap::new(),
                rank_stabilized: false,
                use_dora: false,
                saves_biases: false,
                modules_to_save: Vec::new(),
            });
        };
        let mut json: Map<String, Value> = serde_json::from_slice(text).map_err(|error| bad_json(error.to_string()))?;
        if file.is_none() {
            let own =
                json.into_iter().filter_map(|(key, value)| Some((key.strip_prefix(TRANSFORMER)?.to_owned(), value)));
            json = own.collect();
        } else if json.get("peft_type").is_none_or(|kind| kind != "LORA") {
            let kind = json.get("peft_type").cloned().unwrap_or_default();
            return Err(unsupported(CONFIG_FILE, "peft_type", format!("{kind} is not supported, only \"LORA\"")));
        }
        Self::parse(&json.into())
    }

    fn parse(json: &Value) -> Result<Self, Error> {
        let refused = |key: &str, only: &str| {
            unsupported(CONFIG_FILE, key, format!("{} is not supported, only {only}", json[key]))
        };
        for key in OFF {
            let value = &json[key];
            let is_empty = |value: &Value| match value {
                Value::Array(list) => list.is_empty(),
                Value::Object(map) => map.is_empty(),
                value => value.is_null() || *value == false,
            };
            if !is_empty(value) {
                return Err(refused(key, "none"));
            }
        }
        match &json["init_lora_weights"] {
            Value::Null | Value::Bool(_) => {}
            Value::String(start) if PLAIN_STARTS.contains(&start.to_lowercase().as_str()) => {}
            start => {
                let why = format!(
                    "{start} changed the base weights that the adapter was trained on; save the adapter with PEFT's \
                     path_initial_model_for_weight_conversion, which makes it a plain one, to load it"
                );
                return Err(unsupported(CONFIG_FILE, "init_lora_weights", why));
            }
        }
        let flag = |key: &str| match &json[key] {
            Value::Null => Ok(false),
            Value::Bool(flag) => Ok(*flag),
            _ => Err(refused(key, "true or false")),
        };
        // PEFT gives a module's bias a scale nowhere, and reads `lora_bias` from the tensors alone.
        flag("lora_bias")?;
        let saves_biases = match json["bias"].as_str() {
            None if json["bias"].is_null() => false,
            Some("none") => false,
            Some("all" | "lora_only") => true,
            _ => return Err(refused("bias", "\"none\", \"all\" or \"lora_only\"")),
        };
        let texts = |key: &str| match &json[key] {
            Value::Null => Ok(Vec::new()),
            Value::Array(list) => {
                let texts = list.iter().map(|item| item.as_str().map(str::to_owned)).collect::<Option<Vec<_>>>();
                texts.ok_or_else(|| refused(key, "a list of module names"))
            }
            _ => Err(refused(key, "a list of module names")),
        };
        let number = |key: &str| json[key].as_f64().filter(|number| number.is_finite());
        let missing = || Error::MissingKey { file: CONFIG_FILE.into(), key: "lora_alpha".into() };
        let alphas = json["alpha_pattern"].as_object().cloned().unwrap_or_default();
        let alphas = alphas.into_iter().map(|(module, alpha)| match alpha.as_f64() {
            // PEFT reads these as regular expressions. Its own examples hold plain names only, after ^ whole ones.
            Some(alpha)
                if module.trim_start_matches('^').chars().all(|c| c.is_ascii_alphanumeric() || "._".contains(c)) =>
            {
                Ok((module, alpha))
            }
            _ => Err(refused("alpha_pattern", "names of modules with a number each")),
        });
        Ok(Self {
            alpha: Some(number("lora_alpha").ok_or_else(missing)?),
            alpha_pattern: alphas.collect::<Result<_, _>>()?,
            rank_stabilized: flag("use_rslora")?,
            use_dora: flag("use_dora")?,
            saves_biases,
            modules_to_save: texts("modules_to_save")?,
        })
    }

    /// Returns the factor of B·A, with the α of the file's own `.alpha` tensor where there is one.
    pub(super) fn scaling(&self, module: &str, rank: usize, own_alpha: Option<f64>) -> Result<f64, Error> {
        let matches = |name: &str| match name.strip_prefix('^') {
            Some(whole) => module == whole,
            None => module == name || module.strip_suffix(name).is_some_and(|rest| rest.ends_with('.')),
        };
        let mut alphas = self.alpha_pattern.iter().filter(|(name, _)| matches(name)).map(|(_, alpha)| *alpha);
        let pattern = alphas.next();
        if alphas.any(|alpha| Some(alpha) != pattern) {
            let why = format!("two patterns with different numbers match `{module}`");
            return Err(unsupported(CONFIG_FILE, "alpha_pattern", why));
        }
        let rank = rank as f64;
        let alpha = own_alpha.or(pattern).or(self.alpha).unwrap_or(rank);
        Ok(alpha / if self.rank_stabilized { rank.sqrt() } else { rank })
    }

    /// Returns whether the adapter saves the tensor of the network whole.
    pub(super) fn saves_whole(&self, tensor: &str) -> bool {
        let within = |module: &String| {
            let path = format!(".{tensor}.");
            path.contains(&format!(".{module}."))
        };
        (self.saves_biases && tensor.ends_with(".bias")) || self.modules_to_save.iter().any(within)
    }
}
