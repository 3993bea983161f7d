//! LRU cache of prompt embeddings. The empty caption, which every guided image needs, is never evicted.

use std::collections::BTreeMap;
use std::sync::Arc;

use lru::LruCache;
use pixart_protocol::{EncodeResponse, TokenCount};

/// Capacity in bytes: 64 captions of T5-XXL.
const CAPACITY_BYTES: usize = 128 << 20;

/// Embeddings and attention mask of one caption.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct CachedEmbeds {
    /// `[tokens, channels]`.
    embeds: Arc<[f32]>,
    mask: Arc<[f32]>,
    token_count: TokenCount,
}

impl CachedEmbeds {
    /// Splits a reply by caption.
    pub(crate) fn from_reply(reply: &EncodeResponse) -> impl Iterator<Item = Self> {
        let [_, tokens, channels] = reply.shape.map(|length| length as usize);
        let rows = reply.embeds.chunks_exact(tokens * channels).zip(reply.attention_mask.chunks_exact(tokens));
        let counts = reply.token_counts.iter().cloned().map(Some).chain(std::iter::repeat(None));
        rows.zip(counts).map(|((embeds, mask), count)| Self {
            embeds: embeds.into(),
            mask: mask.into(),
            token_count: count.unwrap_or_default(),
        })
    }

    /// Joins captions of equal length to a reply.
    pub(crate) fn to_reply(rows: &[Self]) -> EncodeResponse {
        let (tokens, embeds) = rows.first().map_or((1, 0), |row| (row.mask.len(), row.embeds.len()));
        assert!(rows.iter().all(|row| (row.mask.len(), row.embeds.len()) == (tokens, embeds)), "rows of one length");
        EncodeResponse {
            shape: [rows.len() as u32, tokens as u32, (embeds / tokens) as u32],
            embeds: rows.iter().flat_map(|row| row.embeds.iter().copied()).collect(),
            attention_mask: rows.iter().flat_map(|row| row.mask.iter().copied()).collect(),
            token_counts: rows.iter().map(|row| row.token_count.clone()).collect(),
        }
    }

    fn bytes(&self) -> usize {
        (self.embeds.len() + self.mask.len()) * size_of::<f32>() + self.token_count.truncated.len()
    }
}

/// Embeddings by caption and `max_sequence_length`.
pub(crate) struct PromptEmbedsCache {
    empty: BTreeMap<u32, CachedEmbeds>,
    others: LruCache<(String, u32), CachedEmbeds>,
    bytes: usize,
    capacity_bytes: usize,
    hits: u64,
}

impl Default for PromptEmbedsCache {
    fn default() -> Self {
        Self::with_capacity(CAPACITY_BYTES)
    }
}

impl PromptEmbedsCache {
    fn with_capacity(capacity_bytes: usize) -> Self {
        Self { empty: BTreeMap::new(), others: LruCache::unbounded(), bytes: 0, capacity_bytes, hits: 0 }
    }

    /// Returns the embeddings of a caption and marks them most recently used.
    pub(crate) fn get(&mut self, caption: &str, tokens: u32) -> Option<CachedEmbeds> {
        let found = match caption {
            "" => self.empty.get(&tokens),
            _ => self.others.get(&(caption.to_owned(), tokens)),
        };
        self.hits += u64::from(found.is_some());
        found.cloned()
    }

    /// Adds the embeddings of a caption, and evicts the least recently used ones beyond the capacity.
    pub(crate) fn insert(&mut self, caption: &str, tokens: u32, row: CachedEmbeds) {
        if caption.is_empty() {
            self.empty.insert(tokens, row);
            return;
        }
        self.bytes += row.bytes();
        if let Some(old) = self.others.put((caption.to_owned(), tokens), row) {
            self.bytes -= old.bytes();
        }
        while self.bytes > self.capacity_bytes
            && let Some((_, old)) = self.others.pop_lru()
        {
            self.bytes -= old.bytes();
        }
    }

    /// Number of captions that were found.
    pub(crate) fn hits(&self) -> u64 {
        self.hits
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 16 bytes.
    fn row(number: f32) -> CachedEmbeds {
        CachedEmbeds { embeds: [number; 3].into(), mask: [1.0].into(), token_count: TokenCount::default() }
    }

    #[test]
    fn the_least_recently_used_caption_is_evicted_and_the_empty_one_never() {
        let mut cache = PromptEmbedsCache::with_capacity(32);
        cache.insert("", 120, row(0.0));
        cache.insert("a", 120, row(1.0));
        cache.insert("b", 120, row(2.0));
        assert_eq!(
            [120, 300].map(|tokens| cache.get("a", tokens)),
            [Some(row(1.0)), None],
            "the length is part of the key"
        );
        cache.insert("c", 120, row(3.0));
        assert_eq!(cache.get("b", 120), None, "a was used after it");
        assert_eq!(
            ["", "a", "c"].map(|caption| cache.get(caption, 120)),
            [0.0, 1.0, 3.0].map(|number| Some(row(number)))
        );
        assert_eq!((cache.hits(), cache.bytes), (4, 32));
        cache.insert("c", 120, row(4.0));
        assert_eq!((cache.get("c", 120), cache.bytes), (Some(row(4.0)), 32));
    }

    #[test]
    fn from_reply_and_to_reply_are_inverse() {
        let reply = EncodeResponse {
            shape: [2, 1, 3],
            embeds: vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0],
            attention_mask: vec![1.0, 0.0],
            token_counts: vec![
                TokenCount::default(),
                TokenCount { tokens: 9, max_tokens: 1, truncated: "cut".to_owned() },
            ],
        };
        assert_eq!(CachedEmbeds::to_reply(&CachedEmbeds::from_reply(&reply).collect::<Vec<_>>()), reply);
    }
}
