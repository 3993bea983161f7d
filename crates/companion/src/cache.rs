//! Embeddings of captions that were asked for before. The empty one, which every guided picture needs, is kept for ever;
//! of the others the least recently used go first.

use std::collections::BTreeMap;
use std::sync::Arc;

use lru::LruCache;
use pixart_protocol::EncodeResponse;

/// Bytes of embeddings that are kept: 64 captions of T5-XXL.
const BYTES_MAX: usize = 128 << 20;

/// The embeddings of one caption.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Row {
    /// `[tokens, channels]`.
    embeds: Arc<[f32]>,
    mask: Arc<[f32]>,
}

impl Row {
    /// The rows of a reply.
    pub(crate) fn all(reply: &EncodeResponse) -> impl Iterator<Item = Self> {
        let [_, tokens, channels] = reply.shape.map(|length| length as usize);
        let rows = reply.embeds.chunks_exact(tokens * channels).zip(reply.attention_mask.chunks_exact(tokens));
        rows.map(|(embeds, mask)| Self { embeds: embeds.into(), mask: mask.into() })
    }

    /// Rows of one length as a reply.
    pub(crate) fn reply(rows: &[Self]) -> EncodeResponse {
        let (tokens, embeds) = rows.first().map_or((1, 0), |row| (row.mask.len(), row.embeds.len()));
        assert!(rows.iter().all(|row| (row.mask.len(), row.embeds.len()) == (tokens, embeds)), "rows of one length");
        EncodeResponse {
            shape: [rows.len() as u32, tokens as u32, (embeds / tokens) as u32],
            embeds: rows.iter().flat_map(|row| row.embeds.iter().copied()).collect(),
            attention_mask: rows.iter().flat_map(|row| row.mask.iter().copied()).collect(),
        }
    }

    fn bytes(&self) -> usize {
        (self.embeds.len() + self.mask.len()) * size_of::<f32>()
    }
}

/// By caption, and the tokens that it was padded or cut to.
pub(crate) struct Cache {
    empty: BTreeMap<u32, Row>,
    others: LruCache<(String, u32), Row>,
    bytes: usize,
    bytes_max: usize,
    hits: u64,
}

impl Default for Cache {
    fn default() -> Self {
        Self::of(BYTES_MAX)
    }
}

impl Cache {
    fn of(bytes_max: usize) -> Self {
        Self { empty: BTreeMap::new(), others: LruCache::unbounded(), bytes: 0, bytes_max, hits: 0 }
    }

    /// The row of a caption, which is then the most recently used.
    pub(crate) fn find(&mut self, caption: &str, tokens: u32) -> Option<Row> {
        let found = match caption {
            "" => self.empty.get(&tokens),
            _ => self.others.get(&(caption.to_owned(), tokens)),
        };
        self.hits += u64::from(found.is_some());
        found.cloned()
    }

    pub(crate) fn keep(&mut self, caption: &str, tokens: u32, row: Row) {
        if caption.is_empty() {
            self.empty.insert(tokens, row);
            return;
        }
        self.bytes += row.bytes();
        if let Some(old) = self.others.put((caption.to_owned(), tokens), row) {
            self.bytes -= old.bytes();
        }
        while self.bytes > self.bytes_max
            && let Some((_, old)) = self.others.pop_lru()
        {
            self.bytes -= old.bytes();
        }
    }

    /// Captions that were found.
    pub(crate) fn hits(&self) -> u64 {
        self.hits
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 16 bytes.
    fn row(number: f32) -> Row {
        Row { embeds: [number; 3].into(), mask: [1.0].into() }
    }

    #[test]
    fn the_least_recently_used_goes_and_the_empty_caption_stays() {
        let mut cache = Cache::of(32);
        cache.keep("", 120, row(0.0));
        cache.keep("a", 120, row(1.0));
        cache.keep("b", 120, row(2.0));
        assert_eq!(
            [120, 300].map(|tokens| cache.find("a", tokens)),
            [Some(row(1.0)), None],
            "the length is part of the key"
        );
        cache.keep("c", 120, row(3.0));
        assert_eq!(cache.find("b", 120), None, "a was used after it");
        assert_eq!(
            ["", "a", "c"].map(|caption| cache.find(caption, 120)),
            [0.0, 1.0, 3.0].map(|number| Some(row(number)))
        );
        assert_eq!((cache.hits(), cache.bytes), (4, 32));
        cache.keep("c", 120, row(4.0));
        assert_eq!((cache.find("c", 120), cache.bytes), (Some(row(4.0)), 32));
    }

    #[test]
    fn rows_and_replies_are_each_others_inverse() {
        let reply = EncodeResponse {
            shape: [2, 1, 3],
            embeds: vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0],
            attention_mask: vec![1.0, 0.0],
        };
        assert_eq!(Row::reply(&Row::all(&reply).collect::<Vec<_>>()), reply);
    }
}
