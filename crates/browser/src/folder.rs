//! Folders whose files the page reads: in memory, or in ranges through a function of the page.

use std::ops::Range;
use std::rc::Rc;

use js_sys::{Array, Function, Map, Promise, Uint8Array};
use pixart_protocol::{Fault, FaultCode};
use pixart_weights::{Error, Folder, Manifest, ReadFuture, Reader};
use wasm_bindgen::{JsCast, JsValue};
use wasm_bindgen_futures::JsFuture;

use crate::faults::report;
use crate::interop::{from_js, message_of};

/// A reader that calls a function of the page.
pub(crate) struct PageReader(pub(crate) Function);

impl Reader for PageReader {
    fn read(&self, path: &str, range: Range<u64>) -> ReadFuture {
        let arguments = Array::of3(&path.into(), &(range.start as f64).into(), &(range.end as f64).into());
        let promised = promise(&self.0, &arguments);
        let path = path.to_owned();
        Box::pin(async move {
            let unreadable = |why| Error::Unreadable { file: path, why };
            match await_promise(promised).await.map(JsCast::dyn_into::<Uint8Array>) {
                Ok(Ok(bytes)) => Ok(bytes.to_vec()),
                Ok(Err(other)) => Err(unreadable(format!("the page returned {}", message_of(&other)))),
                Err(why) => Err(unreadable(why)),
            }
        })
    }
}

/// A reader for folders of which only the configurations are used.
pub(crate) struct NoReads;

impl Reader for NoReads {
    fn read(&self, path: &str, _: Range<u64>) -> ReadFuture {
        let why = "only its length is known here".to_owned();
        Box::pin(std::future::ready(Err(Error::Unreadable { file: path.to_owned(), why })))
    }
}

/// Returns the packed checkpoint of this manifest, whose shards `reader` reads.
pub(crate) fn packed_folder(manifest: &str, reader: impl Reader + 'static) -> Result<Folder, Fault> {
    let mut folder = Folder::default();
    insert_manifest(&mut folder, manifest, reader)?;
    Ok(folder)
}

/// Inserts the packed checkpoint of this manifest.
pub(crate) fn insert_manifest(folder: &mut Folder, manifest: &str, reader: impl Reader + 'static) -> Result<(), Fault> {
    let manifest = Manifest::read(manifest.as_bytes()).map_err(pixart_model::Error::Weights)?;
    let reader: Rc<dyn Reader> = Rc::new(reader);
    folder.insert_packed(manifest, &reader);
    Ok(())
}

/// Returns the folder of `files`, a `Map` of path to `Uint8Array`, or to the length of a file that `reader` reads.
pub(crate) fn folder_of(files: &Map, reader: impl Reader + 'static) -> Folder {
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

/// Returns the folder of `files`, a `Map` of path to `Uint8Array`.
pub(crate) fn memory_folder(files: &Map) -> Folder {
    folder_of(files, NoReads)
}

/// Calls a function of the page that returns a promise.
pub(crate) fn promise(function: &Function, arguments: &Array) -> Result<Promise, JsValue> {
    function.apply(&JsValue::NULL, arguments)?.dyn_into()
}

/// Awaits a promise. A fault that the page throws is reported as the cause of later errors.
pub(crate) async fn await_promise(promised: Result<Promise, JsValue>) -> Result<JsValue, String> {
    let settled = match promised {
        Ok(promise) => JsFuture::from(promise).await,
        Err(thrown) => Err(thrown),
    };
    settled.map_err(|thrown| {
        let fault = from_js::<Fault>(thrown.clone(), "").unwrap_or_else(|_| {
            Fault::new(
                FaultCode::Internal,
                format!("the page could not read or write bytes: {}", message_of(&thrown)),
                "reload the page",
            )
        });
        let what = fault.what.clone();
        report(fault);
        what
    })
}
