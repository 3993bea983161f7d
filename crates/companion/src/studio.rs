//! What a server's one device thread works with: a text encoder, whatever it has encoded before, and the networks that draw
//! where the checkpoint has them.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use pixart_model::{captions_of, plain};
use pixart_protocol::{EncodeRequest, EncodeResponse, Fault, FaultCode, GenerateRequest, Preset};
use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::cache::{Cache, Row};
use crate::generate::{Picture, Progress, hex};
use crate::queue::Work;
use crate::{Encoder, Error, Generator, Opening, TextFrom, TextOpening, checkpoint, device};

/// Captions that are encoded at a time.
const BATCH: usize = 16;

/// What a companion offers, as `GET /v1/models` tells.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct About {
    /// The checkpoint folder's name.
    pub id: String,
    /// SHA-256 of the manifest, or of all small files and of the names and lengths of the others: embeddings of another
    /// model are not mistaken for this one's.
    pub fingerprint: String,
    pub device: String,
    /// Whether the checkpoint generates images, or only encodes prompts.
    pub generates_images: bool,
    /// Pixels of a side that it draws best, and how; where it draws.
    pub native_size: Option<u32>,
    pub preset: Option<Preset>,
}

/// Everything that a server computes with.
pub struct Studio {
    encoder: Encoder,
    generator: Option<Generator>,
    checkpoint: PathBuf,
    cache: Cache,
    about: About,
}

impl Studio {
    /// Loads the text encoder that `opening` names, and the networks that draw where its checkpoint has them.
    ///
    /// # Errors
    /// See [`Encoder::open`] and [`Generator::open`].
    pub fn open(opening: &TextOpening) -> Result<Self, Error> {
        let TextOpening { checkpoint, device, .. } = opening;
        let opened = device::open(*device)?;
        let folder = checkpoint::part(checkpoint, &[])?;
        let generates_images = folder.contains("transformer/config.json") && folder.contains("vae/config.json");
        let encoder = Encoder::on(opened.clone(), opening)?;
        let drawing = || Opening { checkpoint: checkpoint.clone(), text: TextFrom::Asker, ..Opening::default() };
        let generator = generates_images.then(|| Generator::on(opened.clone(), drawing())).transpose()?;
        let about = About {
            id: name_of(checkpoint),
            fingerprint: fingerprint(&folder),
            device: opened.name,
            generates_images,
            native_size: generator.as_ref().map(|generator| generator.limits().native_size),
            preset: generator.as_ref().map(Generator::preset),
        };
        Ok(Self { encoder, generator, checkpoint: checkpoint.clone(), cache: Cache::default(), about })
    }

    #[must_use]
    pub fn about(&self) -> &About {
        &self.about
    }

    /// One row for each caption; those that were never asked for are encoded together.
    fn rows(&mut self, captions: &[String], tokens: u32) -> Result<Vec<Row>, Error> {
        let captions: Vec<String> = captions.iter().map(|caption| plain(caption)).collect();
        let mut rows: BTreeMap<String, Row> = BTreeMap::new();
        let mut unknown: BTreeSet<String> = BTreeSet::new();
        for caption in &captions {
            match self.cache.find(caption, tokens) {
                Some(row) => drop(rows.insert(caption.clone(), row)),
                None => drop(unknown.insert(caption.clone())),
            }
        }
        let unknown: Vec<String> = unknown.into_iter().collect();
        for batch in unknown.chunks(BATCH) {
            let request = EncodeRequest { captions: batch.to_vec(), max_sequence_length: tokens };
            for (caption, row) in batch.iter().zip(Row::all(&self.encoder.encode(&request)?)) {
                self.cache.keep(caption, tokens, row.clone());
                rows.insert(caption.clone(), row);
            }
        }
        Ok(captions.iter().map(|caption| rows[caption].clone()).collect())
    }
}

impl Work for Studio {
    fn encode(&mut self, requests: &[EncodeRequest]) -> Vec<Result<EncodeResponse, Error>> {
        let tokens = requests[0].max_sequence_length;
        let all: Vec<String> = requests.iter().flat_map(|request| request.captions.clone()).collect();
        match self.rows(&all, tokens) {
            Ok(rows) => {
                let mut rows = rows.into_iter();
                let mut reply = |request: &EncodeRequest| {
                    Ok(Row::reply(&rows.by_ref().take(request.captions.len()).collect::<Vec<_>>()))
                };
                requests.iter().map(&mut reply).collect()
            }
            Err(error) if requests.len() == 1 => vec![Err(error)],
            // One spoils it for all only where all are encoded together.
            Err(_) => requests.iter().flat_map(|request| self.encode(std::slice::from_ref(request))).collect(),
        }
    }

    fn draw(
        &mut self,
        request: &GenerateRequest,
        stepped: &mut dyn FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<Vec<Picture>, Error> {
        let Some(generator) = &mut self.generator else {
            let what = format!("`{}` reads prompts alone: it has no transformer or no autoencoder", self.about.id);
            let remedy = "serve a checkpoint that has both";
            return Err(Fault::new(FaultCode::BadRequest, what, remedy).into());
        };
        let captions = captions_of(request, &generator.validate(request)?);
        if request.image.is_some() {
            generator.read_pictures(&self.checkpoint)?;
        }
        let embeds = Row::reply(&self.rows(&captions, request.max_sequence_length)?);
        let generator = self.generator.as_ref().expect("it was there above");
        generator.draw_from(request, &embeds, stepped)
    }

    fn hits(&self) -> u64 {
        self.cache.hits()
    }
}

fn name_of(checkpoint: &Path) -> String {
    let whole = checkpoint.canonicalize().unwrap_or_else(|_| checkpoint.to_owned());
    whole.file_name().map_or("pixart".to_owned(), |name| name.to_string_lossy().into_owned())
}

fn fingerprint(folder: &pixart_weights::Folder) -> String {
    let mut hash = Sha256::new();
    for path in folder.paths() {
        hash.update(path.as_bytes());
        hash.update([0]);
        match folder.bytes(path) {
            Ok(bytes) => hash.update(bytes),
            Err(_) => hash.update(folder.length(path).unwrap_or_default().to_le_bytes()),
        }
    }
    hex(&hash.finalize())
}
