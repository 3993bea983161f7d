//! Checkpoints between the page and the networks: what the page reads from its store or from a server comes in piece by
//! piece, and what a conversion makes goes out shard by shard. The module never holds a checkpoint.

use std::collections::BTreeMap;
use std::ops::Range;
use std::pin::Pin;
use std::rc::Rc;

use burn::tensor::Tensor;
use js_sys::{Array, Function, Map, Promise, Uint8Array};
use pixart_model::{DeviceLimits, Pipeline, VaeEncoder, WeightFormat, form, recommended_precision, scheduler_names};
use pixart_protocol::{Checkpoint, EngineEvent, Fault, FaultCode, Preset, STYLES};
use pixart_weights::manifest::Shard;
use pixart_weights::packer::{Packer, ShardSink};
use pixart_weights::{Error, Folder, Manifest, ReadFuture, Reader};
use serde::Deserialize;
use wasm_bindgen::prelude::wasm_bindgen;
use wasm_bindgen::{JsCast, JsValue};
use wasm_bindgen_futures::JsFuture;

use crate::border::{heap_bytes, now_millis, object, value};
use crate::engine::Engine;
use crate::faults::{self, AtWork, note};

#[wasm_bindgen]
impl Engine {
    /// Refuses a manifest that contradicts itself or is of another version.
    ///
    /// # Errors
    /// A `Fault` with the code `bad_weights`.
    pub fn validate_manifest(manifest: &str) -> Result<(), JsValue> {
        let read = Manifest::read(manifest.as_bytes()).map_err(pixart_model::Error::Weights);
        read.map(drop).map_err(|error| object(&Fault::from(error)))
    }

    /// The precision that `network` (`transformer` or `text_encoder`) of a diffusers folder is converted to for this device;
    /// `files` is a `Map` of path to `Uint8Array` that holds its configurations.
    ///
    /// # Errors
    /// A `Fault` that names the file or key, or that nothing fits.
    pub fn conversion_dtype(&self, network: &str, files: Map) -> Result<JsValue, JsValue> {
        let precision = precision(&files, network, self.limits);
        precision.map(|precision| object(&precision)).map_err(|fault| object(&fault))
    }

    /// Converts the files of a diffusers folder into shards, one after the other, and returns the text of their manifest.
    /// `files` is a `Map` of path to `Uint8Array`, or to the length of a file that `read` reads: `(path, begin, end) =>
    /// Promise<Uint8Array>`. `begin: (bytes) => Promise<void>` is called once, `put: (section, index, bytes) =>
    /// Promise<sha256>` for each shard; `conversion` is `{ networks, precision, shard_bytes, source, in_file_order, made }`.
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
        let _at_work = AtWork::begin();
        let converted = convert(conversion, &files, Page { read, begin, put }).await;
        faults::first().and(converted).map_err(|fault| object(&fault))
    }

    /// Puts what draws on the device, from the packed checkpoint of this manifest, whose shards `read` reads:
    /// `(file, begin, end) => Promise<Uint8Array>`. `storage` says where it is stored; with `text_manifest` the text encoder is
    /// loaded too, from that.
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
    ) -> Result<(), JsValue> {
        let _at_work = AtWork::begin();
        let loaded = self.try_load(manifest, read, storage, text_manifest, began_millis).await;
        faults::first().and(loaded).map_err(|fault| object(&fault))
    }

    /// Whether the text encoder is on the device.
    pub fn has_text_encoder(&self) -> bool {
        self.pipeline.borrow().as_ref().is_some_and(|pipeline| pipeline.can_read())
    }

    /// Puts the text encoder on the device; as [`Engine::load`], which comes first.
    ///
    /// # Errors
    /// As [`Engine::load`]'s.
    pub async fn load_text_encoder(&self, manifest: &str, read: Function) -> Result<(), JsValue> {
        let _at_work = AtWork::begin();
        let load = async { Ok::<_, Fault>(self.loaded()?.load_text(&packed(manifest, Read(read))?).await?) };
        let loaded = load.await;
        faults::first().and(loaded).map_err(|fault| object(&fault))
    }

    /// Puts the part of the checkpoint's autoencoder on the device that reads pictures; as [`Engine::load`].
    ///
    /// # Errors
    /// As [`Engine::load`]'s.
    pub async fn load_vae_encoder(&self, manifest: &str, read: Function) -> Result<(), JsValue> {
        let _at_work = AtWork::begin();
        let load = async { Ok::<_, Fault>(VaeEncoder::load(&packed(manifest, Read(read))?, &self.device).await?) };
        let loaded = load.await.map(|loaded| drop(self.encoding.replace(Some(Rc::new(loaded)))));
        faults::first().and(loaded).map_err(|fault| object(&fault))
    }
}

impl Engine {
    async fn try_load(
        &self,
        manifest: &str,
        read: Function,
        storage: String,
        text_manifest: Option<String>,
        began_millis: f64,
    ) -> Result<(), Fault> {
        let upload_began = now_millis();
        let folder = packed(manifest, Read(read.clone()))?;
        // What was loaded before makes room first.
        self.pipeline.take();
        self.encoding.take();
        self.device.memory_cleanup();
        let pipeline = Pipeline::without_text(&folder, &self.device, self.limits).await?;
        if let Some(manifest) = text_manifest {
            pipeline.load_text(&packed(&manifest, Read(read))?).await?;
        }
        let bytes = folder.manifest().map_or(0, Manifest::bytes) as f64;
        // One readback tells that the uploads before it have happened.
        self.reach("the loaded weights", Tensor::<1>::zeros([1], &self.device)).await?;
        faults::first()?;
        let checkpoint = Checkpoint {
            limits: pipeline.limits(),
            preset: pipeline.preset(),
            presets: Preset::all().to_vec(),
            schedulers: scheduler_names().map(str::to_owned).collect(),
            styles: STYLES.map(|style| style.name.to_owned()).to_vec(),
            weight_bytes: bytes,
            storage,
            load_millis: now_millis() - began_millis,
            upload_millis: now_millis() - upload_began,
            heap_bytes: heap_bytes(),
        };
        self.pipeline.replace(Some(Rc::new(pipeline)));
        self.emitter.emit(&EngineEvent::Ready(checkpoint));
        Ok(())
    }
}

/// What a conversion is asked for.
#[derive(Deserialize)]
struct Conversion {
    /// The folders of the networks to convert.
    networks: Vec<String>,
    weight_format: WeightFormat,
    shard_bytes: u32,
    source: String,
    in_file_order: bool,
    finished_shards: BTreeMap<String, Vec<Shard>>,
}

/// The functions of the page that a conversion calls.
struct Page {
    /// `(path, begin, end) => Promise<Uint8Array>`.
    read: Function,
    /// `(bytes) => Promise<void>`: there has to be room for as many.
    begin: Function,
    /// `(section, index, bytes) => Promise<string>`, the SHA-256 of the bytes once they are kept.
    put: Function,
}

/// Reads through a function of the page.
struct Read(Function);

impl Reader for Read {
    fn read(&self, path: &str, range: Range<u64>) -> ReadFuture {
        let arguments = Array::of3(&path.into(), &(range.start as f64).into(), &(range.end as f64).into());
        let promised = promise(&self.0, &arguments);
        let path = path.to_owned();
        Box::pin(async move {
            let unreadable = |why| Error::Unreadable { file: path, why };
            match awaited(promised).await.map(JsCast::dyn_into::<Uint8Array>) {
                Ok(Ok(bytes)) => Ok(bytes.to_vec()),
                Ok(Err(other)) => Err(unreadable(format!("the page gave {other:?}"))),
                Err(why) => Err(unreadable(why)),
            }
        })
    }
}

/// For folders of which the configurations alone are used.
pub(crate) struct Unread;

impl Reader for Unread {
    fn read(&self, path: &str, _: Range<u64>) -> ReadFuture {
        let why = "only its length is known here".to_owned();
        Box::pin(std::future::ready(Err(Error::Unreadable { file: path.to_owned(), why })))
    }
}

/// The packed checkpoint of this manifest, whose shards `reader` reads.
pub(crate) fn packed(manifest: &str, reader: impl Reader + 'static) -> Result<Folder, Fault> {
    let manifest = Manifest::read(manifest.as_bytes()).map_err(pixart_model::Error::Weights)?;
    let (reader, mut folder): (Rc<dyn Reader>, _) = (Rc::new(reader), Folder::default());
    folder.insert_packed(manifest, &reader);
    Ok(folder)
}

/// A folder of files in memory, or of which the length alone is known: `files` is a `Map` of path to `Uint8Array` or number.
fn source(files: &Map, reader: impl Reader + 'static) -> Folder {
    let (reader, mut folder): (Rc<dyn Reader>, _) = (Rc::new(reader), Folder::default());
    files.for_each(&mut |file, path| {
        let path = path.as_string().expect("files are named by strings");
        match file.as_f64() {
            Some(bytes) => folder.insert_with_reader(path, bytes as u64, &reader),
            None => folder.insert(path, Uint8Array::new(&file).to_vec()),
        }
    });
    folder
}

/// A folder of files in memory: `files` is a `Map` of path to `Uint8Array`.
pub(crate) fn held(files: &Map) -> Folder {
    source(files, Unread)
}

/// The precision that a checkpoint with these configurations is converted to for a device of these limits.
fn precision(files: &Map, network: &str, limits: DeviceLimits) -> Result<WeightFormat, Fault> {
    Ok(recommended_precision(&held(files), network, limits)?)
}

/// Converts the files of a diffusers folder; returns the manifest's text.
async fn convert(conversion: JsValue, files: &Map, page: Page) -> Result<String, Fault> {
    let Conversion { networks, weight_format, shard_bytes, source: name, in_file_order, finished_shards } =
        value(conversion, "the conversion")?;
    let networks: Vec<&str> = networks.iter().map(String::as_str).collect();
    let packer = Packer {
        policy: &|weight| form(weight, weight_format),
        weight_format,
        shard_bytes: shard_bytes.into(),
        license: String::new(),
        source: name,
        networks: &networks,
        in_file_order,
        finished_shards,
    };
    let folder = source(files, Read(page.read.clone()));
    let packed = packer.pack(&folder, &mut Kept(page)).await.map_err(pixart_model::Error::Weights)?;
    Ok(String::from_utf8(packed.to_json()).expect("JSON is text"))
}

/// Puts shards through functions of the page.
struct Kept(Page);

impl ShardSink for Kept {
    fn begin(&mut self, bytes: u64) -> Pin<Box<dyn Future<Output = Result<(), Error>> + '_>> {
        let promised = promise(&self.0.begin, &Array::of1(&(bytes as f64).into()));
        Box::pin(async move {
            let kept = awaited(promised).await;
            kept.map(drop).map_err(|why| Error::Unwritable { file: "the checkpoint".into(), why })
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
            let hash = awaited(promised).await.map_err(unwritable)?;
            hash.as_string().ok_or_else(|| unwritable("it has no hash".into()))
        })
    }
}

fn promise(function: &Function, arguments: &Array) -> Result<Promise, JsValue> {
    function.apply(&JsValue::NULL, arguments)?.dyn_into()
}

/// What is promised. A fault of the page is noted as the cause of whatever follows from it.
async fn awaited(promised: Result<Promise, JsValue>) -> Result<JsValue, String> {
    let settled = match promised {
        Ok(promise) => JsFuture::from(promise).await,
        Err(thrown) => Err(thrown),
    };
    settled.map_err(|thrown| {
        let fault = value::<Fault>(thrown.clone(), "").unwrap_or_else(|_| {
            Fault::new(
                FaultCode::Internal,
                format!("the page could not read or keep bytes: {thrown:?}"),
                "reload the page",
            )
        });
        let what = fault.what.clone();
        note(fault);
        what
    })
}
