//! Base64 as clients send it: the standard or the URL-safe alphabet, with or without padding, broken into lines, alone or in a
//! data URL.

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

const ENGINE: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Decodes `text`; `None` where it is no base64, or none of any byte.
pub(super) fn decode(text: &str) -> Option<Vec<u8>> {
    let text = text.trim();
    let is_data_url = text.get(..5).is_some_and(|scheme| scheme.eq_ignore_ascii_case("data:"));
    let base64 = if is_data_url { text.split_once(',').filter(|(head, _)| is_base64_head(head))?.1 } else { text };
    let standard = |byte: u8| match byte {
        b'-' => b'+',
        b'_' => b'/',
        byte => byte,
    };
    let bytes: Vec<u8> = base64.bytes().filter(|byte| !byte.is_ascii_whitespace()).map(standard).collect();
    ENGINE.decode(bytes).ok().filter(|decoded| !decoded.is_empty())
}

/// True where the data after the head of a data URL are base64.
fn is_base64_head(head: &str) -> bool {
    head.rsplit(';').next().is_some_and(|last| last.trim().eq_ignore_ascii_case("base64"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_of_base64_is_read() {
        let bytes = vec![0xfb, 0xff, 0xfe, 1];
        for text in [
            "+//+AQ==",
            "+//+AQ",
            "-__-AQ==",
            "-__-AQ",
            "+//+\r\nAQ==\r\n",
            " +/ /+\tAQ==\n",
            "data:image/png;base64,+//+AQ==",
            "data:image/png;base64,\n+//+\nAQ==",
            "DATA:image/png;charset=utf-8;BASE64,-__-AQ",
            "data:;base64,+//+AQ==",
        ] {
            assert_eq!(decode(text), Some(bytes.clone()), "{text}");
        }
    }

    #[test]
    fn other_text_is_none() {
        for text in ["", "%", "A", "data:image/png,AQI=", "data:image/png;base64", "https://example.org/a.png", "AQ=A"]
        {
            assert_eq!(decode(text), None, "{text}");
        }
    }
}
