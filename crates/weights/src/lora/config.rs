//! The settings of an adapter: PEFT's `adapter_config.json`, or the same keys in the metadata of diffusers' files.

use serde_json::{Map, Value};

use super::{CONFIG_FILE, unsupported};
use crate::{Error, Tensors};

/// Key of a safetensors file's metadata under which diffusers saves PEFT's configuration, its keys after the network's name.
const METADATA: &str = "lora_adapter_metadata";
/// Kinds of PEFT's adapters, with their key of α.
const KINDS: [(&str, &str); 3] = [("LORA", "lora_alpha"), ("LOHA", "alpha"), ("LOKR", "alpha")];
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
#[derive(Default)]
pub(super) struct LoraConfig {
    /// α; none where the file has no settings, which means the rank.
    alpha: Option<f64>,
    /// α by module name, or by the end of one.
    alpha_pattern: Vec<(String, f64)>,
    /// The rank of changes that have none themselves, and those by module.
    rank: Option<f64>,
    rank_pattern: Vec<(String, f64)>,
    /// True if the scale is α/√r instead of α/r (rsLoRA).
    rank_stabilized: bool,
    /// True if the length of the merged rows is trained (DoRA).
    pub(super) use_dora: bool,
    /// True if biases are saved whole.
    saves_biases: bool,
    modules_to_save: Vec<String>,
}

impl LoraConfig {
    /// Starts of the keys of each network in diffusers' metadata.
    pub(super) const TRANSFORMER: &str = "transformer.";
    pub(super) const TEXT_ENCODER: &str = "text_encoder.";

    /// Reads the settings from a configuration file, else those of `network` from the metadata of `tensors`.
    pub(super) fn read(file: Option<&[u8]>, tensors: &Tensors<'_>, network: &str) -> Result<Self, Error> {
        let bad_json = |why: String| Error::BadJson { file: CONFIG_FILE.into(), why };
        let text = file.or(tensors.metadata(METADATA).map(str::as_bytes)).unwrap_or(b"{}");
        let mut json: Map<String, Value> = serde_json::from_slice(text).map_err(|error| bad_json(error.to_string()))?;
        if file.is_none() {
            let own = json.into_iter().filter_map(|(key, value)| Some((key.strip_prefix(network)?.to_owned(), value)));
            json = own.collect();
            if json.is_empty() {
                return Ok(Self::default());
            }
            return Self::parse(&json.into(), KINDS[0].1);
        }
        let kind = json.get("peft_type").cloned().unwrap_or_default();
        match KINDS.iter().find(|(name, _)| kind == *name) {
            Some((_, alpha)) => Self::parse(&json.into(), alpha),
            None => {
                let why = format!("{kind} is not supported, only \"LORA\", \"LOHA\" and \"LOKR\"");
                Err(unsupported(CONFIG_FILE, "peft_type", why))
            }
        }
    }

    fn parse(json: &Value, alpha_key: &str) -> Result<Self, Error> {
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
        let missing = || Error::MissingKey { file: CONFIG_FILE.into(), key: alpha_key.into() };
        let pattern = |key: &str| {
            let numbers = json[key].as_object().cloned().unwrap_or_default();
            let numbers = numbers.into_iter().map(|(module, number)| match number.as_f64() {
                // PEFT reads these as regular expressions. Its own examples hold plain names only, after ^ whole ones.
                Some(number)
                    if module
                        .trim_start_matches('^')
                        .chars()
                        .all(|c| c.is_ascii_alphanumeric() || "._".contains(c)) =>
                {
                    Ok((module, number))
                }
                _ => Err(refused(key, "names of modules with a number each")),
            });
            numbers.collect::<Result<_, _>>()
        };
        Ok(Self {
            alpha: Some(number(alpha_key).ok_or_else(missing)?),
            alpha_pattern: pattern("alpha_pattern")?,
            rank: number("r"),
            rank_pattern: if alpha_key == KINDS[0].1 { Vec::new() } else { pattern("rank_pattern")? },
            rank_stabilized: flag("use_rslora")?,
            use_dora: flag("use_dora")?,
            saves_biases,
            modules_to_save: texts("modules_to_save")?,
        })
    }

    /// Returns the factor of a change of rank `rank`, with the α of the file's own `.alpha` tensor where there is one. A change
    /// without a rank has the factor 1, or that of PEFT's settings.
    pub(super) fn scaling(&self, module: &str, rank: Option<usize>, own_alpha: Option<f64>) -> Result<f64, Error> {
        let configured = if rank.is_none() && own_alpha.is_some() { None } else { self.rank };
        let rank = match (rank, configured) {
            (Some(rank), _) => rank as f64,
            (None, Some(configured)) => matching(module, &self.rank_pattern, "rank_pattern")?.unwrap_or(configured),
            (None, None) => return Ok(1.0),
        };
        // A trainer takes an α of zero for the rank.
        let own_alpha = own_alpha.map(|alpha| if alpha == 0.0 { rank } else { alpha });
        let alpha = match own_alpha {
            Some(alpha) => alpha,
            None => matching(module, &self.alpha_pattern, "alpha_pattern")?.or(self.alpha).unwrap_or(rank),
        };
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

/// Returns the number of the patterns that match a module.
fn matching(module: &str, patterns: &[(String, f64)], key: &str) -> Result<Option<f64>, Error> {
    let matches = |name: &str| match name.strip_prefix('^') {
        Some(whole) => module == whole,
        None => module == name || module.strip_suffix(name).is_some_and(|rest| rest.ends_with('.')),
    };
    let mut numbers = patterns.iter().filter(|(name, _)| matches(name)).map(|(_, number)| *number);
    let first = numbers.next();
    match numbers.any(|number| Some(number) != first) {
        true => {
            let why = format!("two patterns with different numbers match `{module}`");
            Err(unsupported(CONFIG_FILE, key, why))
        }
        false => Ok(first),
    }
}
