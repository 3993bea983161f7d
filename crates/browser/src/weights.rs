//! Checkpoints between the page and the networks: what the page reads from its store or from a server comes in piece by
//! piece, and what a conversion makes goes out shard by shard. The module never holds a checkpoint.

use std::collections::BTreeMap;
use std::ops::Range;
use std::pin::Pin;
use std::rc::Rc;

use js_sys::{Array, Function, Map, Promise, Uint8Array};
use pixart_model::{DeviceLimits, Precision, form, precision_of};
use pixart_protocol::{Fault, FaultCode};
use pixart_weights::manifest::Shard;
use pixart_weights::packer::{Packer, Sink};
use pixart_weights::{Error, Folder, Manifest, Reader, Reading};
use serde::Deserialize;
use wasm_bindgen::{JsCast, JsValue};
use wasm_bindgen_futures::JsFuture;

use crate::border::value;
use crate::faults::note;

/// What a conversion is asked for.
#[derive(Deserialize)]
pub(crate) struct Conversion {
    /// The folders of the networks to convert.
    networks: Vec<String>,
    precision: Precision,
    shard_bytes: u32,
    source: String,
    in_file_order: bool,
    made: BTreeMap<String, Vec<Shard>>,
}

/// The functions of the page that a conversion calls.
pub(crate) struct Page {
    /// `(path, begin, end) => Promise<Uint8Array>`.
    pub(crate) read: Function,
    /// `(bytes) => Promise<void>`: there has to be room for as many.
    pub(crate) begin: Function,
    /// `(section, index, bytes) => Promise<string>`, the SHA-256 of the bytes once they are kept.
    pub(crate) put: Function,
}

/// Reads through a function of the page.
struct Read(Function);

impl Reader for Read {
    fn read(&self, path: &str, range: Range<u64>) -> Reading {
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

/// The packed checkpoint of this manifest, whose shards `read` reads.
pub(crate) fn packed(manifest: &str, read: Function) -> Result<Folder, Fault> {
    let manifest = Manifest::read(manifest.as_bytes()).map_err(pixart_model::Error::Weights)?;
    let (reader, mut folder): (Rc<dyn Reader>, _) = (Rc::new(Read(read)), Folder::default());
    folder.insert_packed(manifest, &reader);
    Ok(folder)
}

/// A folder of files in memory, or of which the length alone is known: `files` is a `Map` of path to `Uint8Array` or number.
fn source(files: &Map, read: Function) -> Folder {
    let (reader, mut folder): (Rc<dyn Reader>, _) = (Rc::new(Read(read)), Folder::default());
    files.for_each(&mut |file, path| {
        let path = path.as_string().expect("files are named by strings");
        match file.as_f64() {
            Some(bytes) => folder.insert_elsewhere(path, bytes as u64, &reader),
            None => folder.insert(path, Uint8Array::new(&file).to_vec()),
        }
    });
    folder
}

/// The precision that a checkpoint with these configurations is converted to for a device of these limits.
pub(crate) fn precision(files: &Map, network: &str, limits: DeviceLimits) -> Result<Precision, Fault> {
    Ok(precision_of(&source(files, Function::default()), network, limits)?)
}

/// Converts the files of a diffusers folder; returns the manifest's text.
pub(crate) async fn convert(conversion: JsValue, files: &Map, page: Page) -> Result<String, Fault> {
    let Conversion { networks, precision, shard_bytes, source: name, in_file_order, made } =
        value(conversion, "the conversion")?;
    let networks: Vec<&str> = networks.iter().map(String::as_str).collect();
    let packer = Packer {
        rule: &|weight| form(weight, precision),
        precision,
        shard_bytes: shard_bytes.into(),
        license: String::new(),
        source: name,
        networks: &networks,
        in_file_order,
        made,
    };
    let folder = source(files, page.read.clone());
    let packed = packer.pack(&folder, &mut Kept(page)).await.map_err(pixart_model::Error::Weights)?;
    Ok(String::from_utf8(packed.to_json()).expect("JSON is text"))
}

/// Puts shards through functions of the page.
struct Kept(Page);

impl Sink for Kept {
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
