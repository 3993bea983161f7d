//! Generated images that are served by URL, for `"response_format": "url"`. They are kept in memory for an hour, under names
//! that cannot be guessed: like OpenAI's URLs, they need no token.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use pixart_protocol::{Fault, FaultCode};

use super::Server;
use super::api_error::ApiError;

/// Path of a stored image, before its name.
pub(super) const PATH: &str = "/generated-images";
/// Time for which an image is kept.
const LIFETIME: Duration = Duration::from_secs(3600);
/// Most bytes kept. The oldest images are dropped beyond them; the largest reply, 16 images of 2048 px, fits.
const BYTES_MAX: usize = 256 << 20;
/// Random bytes of a name.
const NAME_BYTES: usize = 16;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct ImageStore {
    images: Mutex<VecDeque<StoredImage>>,
}

#[derive(Debug)]
struct StoredImage {
    name: String,
    bytes: Bytes,
    stored: Instant,
}

impl ImageStore {
    /// Stores an image and returns its name, which ends in `extension`.
    pub(super) fn insert(&self, bytes: Vec<u8>, extension: &str) -> String {
        let mut random = [0; NAME_BYTES];
        getrandom::fill(&mut random).expect("the operating system gives random bytes");
        let name = format!("{}.{extension}", hex::encode(random));
        self.insert_at(Instant::now(), name.clone(), bytes);
        name
    }

    fn insert_at(&self, now: Instant, name: String, bytes: Vec<u8>) {
        // The list is whole after every line that changes it.
        let mut images = self.images.lock().unwrap_or_else(PoisonError::into_inner);
        images.push_back(StoredImage { name, bytes: bytes.into(), stored: now });
        let mut total: usize = images.iter().map(|image| image.bytes.len()).sum();
        while images.front().is_some_and(|oldest| total > BYTES_MAX || oldest.is_expired(now)) {
            total -= images.pop_front().map_or(0, |oldest| oldest.bytes.len());
        }
    }

    fn get_at(&self, now: Instant, name: &str) -> Option<Bytes> {
        let mut images = self.images.lock().unwrap_or_else(PoisonError::into_inner);
        images.retain(|image| !image.is_expired(now));
        images.iter().find(|image| image.name == name).map(|image| image.bytes.clone())
    }
}

impl StoredImage {
    fn is_expired(&self, now: Instant) -> bool {
        now.duration_since(self.stored) >= LIFETIME
    }
}

/// `GET /generated-images/{name}`.
pub(super) async fn get(State(server): State<Server>, Path(name): Path<String>) -> Result<Response, ApiError> {
    let Some(bytes) = server.image_store.get_at(Instant::now(), &name) else {
        let what = "no image is stored under this address";
        let remedy = "generate it again: an image is served for one hour, and \"response_format\": \"b64_json\" sends it at once";
        return Err(ApiError::new(StatusCode::NOT_FOUND, Fault::new(FaultCode::BadRequest, what, remedy)));
    };
    let kind = if name.ends_with(".png") { "image/png" } else { "application/octet-stream" };
    Ok(([(CONTENT_TYPE, kind)], bytes).into_response())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_is_served_for_an_hour_under_a_name_of_its_own() {
        let (store, start) = (ImageStore::default(), Instant::now());
        let names = [store.insert(vec![1], "png"), store.insert(vec![2], "png")];
        assert!(names[0] != names[1] && names.iter().all(|name| name.len() == 2 * NAME_BYTES + 4), "{names:?}");
        let at = |seconds: u64, name: &str| store.get_at(start + Duration::from_secs(seconds), name);
        assert_eq!(at(3599, &names[1]), Some(Bytes::from(vec![2])));
        assert_eq!((at(0, "other.png"), at(3700, &names[0])), (None, None));
    }

    #[test]
    fn the_oldest_images_are_dropped_beyond_the_limit() {
        let (store, now) = (ImageStore::default(), Instant::now());
        for name in ["a", "b", "c"] {
            store.insert_at(now, name.into(), vec![0; BYTES_MAX / 2]);
        }
        let kept = ["a", "b", "c"].map(|name| store.get_at(now, name).is_some());
        assert_eq!(kept, [false, true, true]);
    }
}
