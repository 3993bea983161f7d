//! Loading and conversion of checkpoints. The page reads files in ranges, and stores a conversion shard by shard: the module never
//! holds a whole checkpoint.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::rc::Rc;

use burn::tensor::{Device, Tensor};
use js_sys::{Array, Function, Map, Uint8Array};
use pixart_model::{
    DeviceLimits, Pipeline, TextEncoder, WeightFormat, quantization_policy, recommended_weight_format, scheduler_names,
};
use pixart_protocol::{Checkpoint, EngineEvent, Fault, Preset, STYLES};
use pixart_weights::manifest::Shard;
use pixart_weights::packer::{Packer, ShardSink};
use pixart_weights::{Error, Folder, Manifest, derive_text_encoder_config};
use serde::Deserialize;
use wasm_bindgen::JsValue;
use wasm_bindgen::prelude::wasm_bindgen;

use crate::engine::Engine;
use crate::faults::{self, CallGuard};
use crate::folder::{PageReader, await_promise, folder_of, memory_folder, packed_folder, promise};
use crate::interop::{from_js, heap_bytes, now_millis, to_js};
use crate::loras::insert_loras;

#[wasm_bindgen]
impl Engine {
    /// Validates the text of a manifest.
    ///
    /// # Errors
    /// A `Fault` with the code `bad_weights`.
    pub fn validate_manifest(manifest: &str) -> Result<(), JsValue> {
        let read = Manifest::read(manifest.as_bytes()).map_err(pixart_model::Error::Weights);
        read.map(drop).map_err(|error| to_js(&Fault::from(error)))
    }

    /// Returns the format that `network` (`transformer` or `text_encoder`) of a diffusers folder is converted to on this device.
    /// `files` is a `Map` of path to `Uint8Array` with its configurations.
    ///
    /// # Errors
    /// A `Fault` that names the file or key, or that nothing fits.
    pub fn conversion_dtype(&self, network: &str, files: Map) -> Result<JsValue, JsValue> {
        let format = conversion_format(&files, network, self.limits);
        format.map(|format| to_js(&format)).map_err(|fault| to_js(&fault))
    }

    /// Returns the text of `text_encoder/config.json` for the weights of a text encoder without one, from the shapes in its header.
    /// `files` and `read` are those of [`Engine::convert`].
    ///
    /// # Errors
    /// A `Fault` that names the file and tensor, or the one that `read` threw.
    pub async fn derive_text_encoder_config(files: Map, read: Function) -> Result<Option<String>, JsValue> {
        let _guard = CallGuard::begin();
        let mut folder = folder_of(&files, PageReader(read));
        let derived = derive_text_encoder_config(&mut folder).await.map_err(pixart_model::Error::Weights);
        let config =
            folder.bytes("text_encoder/config.json").ok().map(|bytes| String::from_utf8_lossy(bytes).into_owned());
        faults::take_first().and(derived.map_err(Fault::from)).map(|()| config).map_err(|fault| to_js(&fault))
    }

    /// Converts the files of a diffusers folder into shards, one after the other, and returns the text of their manifest.
    /// `files` is a `Map` of path to `Uint8Array`, or to the length of a file that `read` reads: `(path, begin, end) =>
    /// Promise<Uint8Array>`. `begin: (bytes) => Promise<void>` is called once, `put: (section, index, bytes) =>
    /// Promise<sha256>` for each shard; `conversion` is
    /// `{ networks, weight_format, shard_bytes, source, in_file_order, finished_shards }`.
    ///
    /// # Errors
    /// A `Fault` that names the file and tensor, or the one that a function of the page threw.
    pub async fn convert(
        conversion: JsValue,
        files: Map,
        read: Function,
        begin: Function,
        put: Function,
    ) -> Result<String, JsValue> {
        let _guard = CallGuard::begin();
        let converted = convert(conversion, &files, PageFunctions { read, begin, put }).await;
        faults::take_first().and(converted).map_err(|fault| to_js(&fault))
    }

    /// Checks networks of a diffusers folder before they are converted: their configurations, the tokenizer, and names, shapes and
    /// dtypes in the headers of the weights, all that `read` is called for; and whether the LoRAs fit the transformer. `files` and
    /// `read` are those of [`Engine::convert`], `loras` those of [`Engine::load`].
    ///
    /// # Errors
    /// A `Fault` that names the file and key or tensor, or the one that `read` threw.
    pub async fn check_headers(
        &self,
        with_text_encoder: bool,
        files: Map,
        weight_format: JsValue,
        read: Function,
        loras: Array,
    ) -> Result<(), JsValue> {
        let _guard = CallGuard::begin();
        let mut folder = folder_of(&files, PageReader(read));
        let check = async {
            insert_loras(&mut folder, &loras)?;
            let folder = folder.headers_only();
            let format = Some(from_js::<WeightFormat>(weight_format, "the weight format")?);
            if with_text_encoder {
                TextEncoder::open(&folder, format, &Device::flex()).await.map(drop)?;
            } else {
                Pipeline::load(&folder, &Device::flex(), self.limits, format).await.map(drop)?;
            }
            Ok::<_, Fault>(())
        };
        let checked = check.await;
        faults::take_first().and(checked).map_err(|fault| to_js(&fault))
    }

    /// Loads transformer and VAE decoder from the packed checkpoint of this manifest. `read: (file, begin, end) =>
    /// Promise<Uint8Array>` reads its shards. `storage` is the name of the storage backend. With `text_manifest` the text encoder is
    /// loaded, too. `loras` is an array of `{ name, scale, file, bytes, config }`.
    ///
    /// # Errors
    /// A `Fault` that names the file, key or tensor, or the one that `read` threw.
    pub async fn load(
        &self,
        manifest: &str,
        read: Function,
        storage: String,
        text_manifest: Option<String>,
        began_millis: f64,
        loras: Array,
    ) -> Result<(), JsValue> {
        let _guard = CallGuard::begin();
        let load = async {
            let mut folder = packed_folder(manifest, PageReader(read.clone()))?;
            let merged = insert_loras(&mut folder, &loras)?;
            self.loras.replace(merged);
            self.try_load(&folder, read, storage, text_manifest, began_millis).await
        };
        let loaded = load.await;
        faults::take_first().and(loaded).map_err(|fault| to_js(&fault))
    }

    /// Returns whether the text encoder is on the device.
    pub fn has_text_encoder(&self) -> bool {
        self.pipeline.borrow().as_ref().is_some_and(|pipeline| pipeline.has_text_encoder())
    }

    /// Loads the text encoder, after [`Engine::load`].
    ///
    /// # Errors
    /// As [`Engine::load`]'s.
    pub async fn load_text_encoder(&self, manifest: &str, read: Function) -> Result<(), JsValue> {
        let _guard = CallGuard::begin();
        let load = async {
            Ok::<_, Fault>(
                self.loaded_pipeline()?.load_text_encoder(&packed_folder(manifest, PageReader(read))?).await?,
            )
        };
        let loaded = load.await;
        faults::take_first().and(loaded).map_err(|fault| to_js(&fault))
    }

    /// Loads the VAE's encoder, after [`Engine::load`].
    ///
    /// # Errors
    /// As [`Engine::load`]'s.
    pub async fn load_vae_encoder(&self, manifest: &str, read: Function) -> Result<(), JsValue> {
        let _guard = CallGuard::begin();
        let load = async {
            Ok::<_, Fault>(self.loaded_pipeline()?.load_vae_encoder(&packed_folder(manifest, PageReader(read))?).await?)
        };
        let loaded = load.await;
        faults::take_first().and(loaded).map_err(|fault| to_js(&fault))
    }
}

impl Engine {
    async fn try_load(
        &self,
        folder: &Folder,
        read: Function,
        storage: String,
        text_manifest: Option<String>,
        began_millis: f64,
    ) -> Result<(), Fault> {
        let upload_started = now_millis();
        // The previous checkpoint is dropped first.
        self.pipeline.take();
        self.device.memory_cleanup();
        let pipeline = Pipeline::load(folder, &self.device, self.limits, None).await?;
        let mut text_encoder_hash = None;
        if let Some(manifest) = text_manifest {
            let text_folder = packed_folder(&manifest, PageReader(read))?;
            text_encoder_hash = text_folder.manifest().map(Manifest::hash);
            pipeline.load_text_encoder(&text_folder).await?;
        }
        let bytes = folder.manifest().map_or(0, Manifest::bytes) as f64;
        // One readback fences all uploads.
        self.fence("the loaded weights", Tensor::<1>::zeros([1], &self.device)).await?;
        faults::take_first()?;
        let checkpoint = Checkpoint {
            limits: pipeline.limits(),
            preset: pipeline.preset(),
            presets: Preset::all().to_vec(),
            schedulers: scheduler_names().map(str::to_owned).collect(),
            styles: STYLES.map(|style| style.name.to_owned()).to_vec(),
            weight_bytes: bytes,
            model: pipeline.model().0.to_owned(),
            model_hash: pipeline.model().1.map(str::to_owned),
            text_encoder_hash,
            weight_format: pipeline.weight_format().to_string(),
            loras: self.loras.borrow().clone(),
            storage,
            load_millis: now_millis() - began_millis,
            upload_millis: now_millis() - upload_started,
            heap_bytes: heap_bytes(),
        };
        self.pipeline.replace(Some(Rc::new(pipeline)));
        self.emitter.emit(&EngineEvent::Ready(Box::new(checkpoint)));
        Ok(())
    }
}

/// Options of a conversion.
#[derive(Deserialize)]
struct ConversionOptions {
    /// Folders of the networks to convert.
    networks: Vec<String>,
    weight_format: WeightFormat,
    shard_bytes: u32,
    source: String,
    in_file_order: bool,
    finished_shards: BTreeMap<String, Vec<Shard>>,
}

/// Functions of the page that a conversion calls.
struct PageFunctions {
    /// `(path, begin, end) => Promise<Uint8Array>`.
    read: Function,
    /// `(bytes) => Promise<void>`: checks that as many can be stored.
    begin: Function,
    /// `(section, index, bytes) => Promise<string>`: stores the bytes and returns their SHA-256.
    put: Function,
}

/// Returns the format that a checkpoint with these configurations is converted to on a device of these limits.
fn conversion_format(files: &Map, network: &str, limits: DeviceLimits) -> Result<WeightFormat, Fault> {
    Ok(recommended_weight_format(&memory_folder(files), network, limits)?)
}

/// Converts the files of a diffusers folder; returns the manifest's text.
async fn convert(conversion: JsValue, files: &Map, page: PageFunctions) -> Result<String, Fault> {
    let ConversionOptions { networks, weight_format, shard_bytes, source: name, in_file_order, finished_shards } =
        from_js(conversion, "the conversion")?;
    let networks: Vec<&str> = networks.iter().map(String::as_str).collect();
    let packer = Packer {
        policy: &|weight| quantization_policy(weight, weight_format),
        weight_format,
        shard_bytes: shard_bytes.into(),
        license: String::new(),
        source: name,
        networks: &networks,
        in_file_order,
        finished_shards,
    };
    let folder = folder_of(files, PageReader(page.read.clone()));
    let packed = packer.pack(&folder, &mut PageSink(page)).await.map_err(pixart_model::Error::Weights)?;
    Ok(String::from_utf8(packed.to_json()).expect("JSON is text"))
}

/// A sink that stores shards through functions of the page.
struct PageSink(PageFunctions);

impl ShardSink for PageSink {
    fn begin(&mut self, bytes: u64) -> Pin<Box<dyn Future<Output = Result<(), Error>> + '_>> {
        let promised = promise(&self.0.begin, &Array::of1(&(bytes as f64).into()));
        Box::pin(async move {
            let begun = await_promise(promised).await;
            begun.map(drop).map_err(|why| Error::Unwritable { file: "the checkpoint".into(), why })
        })
    }

    fn put<'a>(
        &'a mut self,
        section: &'a str,
        index: usize,
        bytes: &'a [u8],
    ) -> Pin<Box<dyn Future<Output = Result<String, Error>> + 'a>> {
        let promised =
            promise(&self.0.put, &Array::of3(&section.into(), &(index as u32).into(), &Uint8Array::from(bytes)));
        Box::pin(async move {
            let unwritable = |why| Error::Unwritable { file: format!("shard {index} of {section}"), why };
            let hash = await_promise(promised).await.map_err(unwritable)?;
            hash.as_string().ok_or_else(|| unwritable("it has no hash".into()))
        })
    }
}
