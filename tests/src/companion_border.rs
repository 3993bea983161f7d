//! Requests that no client should send: the server answers each with one fault, does not panic, and answers the next.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use pixart_protocol::{Fault, FaultCode};
use serde_json::{Value, json};

use crate::companion::{generate, send_bytes};

/// Sends `body` as JSON.
fn post(path: &str, body: &[u8]) -> (u16, Value) {
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n",
        body.len()
    );
    let answer = send_bytes(&[head.as_bytes(), body].concat());
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer to {path}: {answer}"));
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
    (status, serde_json::from_str(body).unwrap_or_else(|error| panic!("{body}: {error}")))
}

/// Asserts that the request is refused for what the client sent, and that the next one is answered.
fn assert_refused(name: &str, (status, body): (u16, Value)) {
    assert!((400..500).contains(&status), "{name}: {status} {body}");
    let fault: Fault = serde_json::from_value(body).unwrap_or_else(|error| panic!("{name}: {error}"));
    assert_eq!(fault.code, FaultCode::BadRequest, "{name}: {fault}");
    assert!(!fault.what.is_empty() && !fault.remedy.is_empty() && fault.what.len() < 1000, "{name}: {fault}");
    assert_next_is_answered(name);
}

fn assert_next_is_answered(name: &str) {
    let (status, body) = post("/v1/encode", br#"{"captions": ["a star"]}"#);
    assert_eq!(status, 200, "after {name}: {body}");
}

/// A request that generates in a moment, with `fields`.
fn quick(fields: Value) -> Value {
    let mut request = json!({ "prompt": "a star", "size": "64x64", "num_inference_steps": 1 });
    request.as_object_mut().expect("an object").extend(fields.as_object().expect("an object").clone());
    request
}

#[test]
fn a_body_that_is_no_json_is_one_fault() {
    let nested = |open: &str, close: &str| format!("{}1{}", open.repeat(50_000), close.repeat(50_000)).into_bytes();
    for path in ["/v1/images/generations", "/v1/encode"] {
        for (name, body) in [
            ("nothing", b"".to_vec()),
            ("a lone surrogate", br#"{"prompt": "\ud800", "captions": ["\ud800"]}"#.to_vec()),
            ("a low surrogate", br#"{"prompt": "\udc00", "captions": ["\udc00"]}"#.to_vec()),
            ("a surrogate before a letter", br#"{"prompt": "\ud800a", "captions": ["\ud800a"]}"#.to_vec()),
            ("invalid UTF-8", b"{\"prompt\": \"\xff\xfe\", \"captions\": [\"\xff\"]}".to_vec()),
            ("an overlong encoding", b"{\"prompt\": \"\xc0\x80\", \"captions\": [\"\xc0\x80\"]}".to_vec()),
            ("an encoded surrogate", b"{\"prompt\": \"\xed\xa0\x80\", \"captions\": [\"\xed\xa0\x80\"]}".to_vec()),
            ("UTF-16", "{\"prompt\": \"a\"}".encode_utf16().flat_map(u16::to_le_bytes).collect()),
            ("deep lists", nested("[", "]")),
            ("deep objects", nested("{\"a\":", "}")),
            ("a control character", b"{\"prompt\": \"a\nb\", \"captions\": [\"a\nb\"]}".to_vec()),
            (
                "a number out of range",
                br#"{"prompt": "p", "seed": 1e999, "captions": ["a"], "max_sequence_length": 1e999}"#.to_vec(),
            ),
            ("NaN", br#"{"prompt": "p", "seed": NaN, "captions": NaN}"#.to_vec()),
            ("a second value", br#"{"prompt": "p", "captions": ["a"]} {}"#.to_vec()),
            ("a list", b"[]".to_vec()),
            ("null", b"null".to_vec()),
            ("a text", b"\"a\"".to_vec()),
        ] {
            assert_refused(&format!("{path}: {name}"), post(path, &body));
        }
    }
}

#[test]
fn a_number_out_of_range_is_refused_by_its_field() {
    let numbers = [
        "-2",
        "1e300",
        "-1e300",
        "0.5",
        "4294967296",
        "9007199254740993",
        "18446744073709551616",
        "[]",
        "{}",
        "true",
        "\"1\"",
    ];
    for field in ["seed", "n", "num_inference_steps", "width", "height", "max_sequence_length"] {
        for number in numbers {
            let body = format!(r#"{{"prompt": "p", "{field}": {number}}}"#);
            let (status, reply) = post("/v1/images/generations", body.as_bytes());
            assert!(
                reply["error"]["param"] == field || reply["what"].as_str().is_some_and(|what| what.contains(field)),
                "{body}: {reply}"
            );
            assert_refused(&body, (status, reply));
        }
    }
    for field in ["guidance_scale", "eta", "pag_scale", "strength"] {
        for number in ["-1", "1e300", "-0.1", "\"1\"", "[1]"] {
            let body = format!(r#"{{"prompt": "p", "{field}": {number}}}"#);
            assert_refused(&body, post("/v1/images/generations", body.as_bytes()));
        }
    }
    for (field, number) in [("seed", "-0"), ("seed", "-0.0"), ("eta", "-0"), ("seed", "4294967295"), ("n", "1e0")] {
        let body = format!(r#"{{"prompt": "p", "size": "64x64", "num_inference_steps": 1, "{field}": {number}}}"#);
        let (status, reply) = post("/v1/images/generations", body.as_bytes());
        assert_eq!(status, 200, "{body}: {reply}");
    }
}

#[test]
fn prompts_of_every_plane_and_length_are_read_or_refused() {
    // A letter, a noncharacter and the last code point of each plane.
    let planes: String = (0..17_u32)
        .flat_map(|plane| [0x41, 0x1234, 0xfffe, 0xffff].map(|low| plane << 16 | low))
        .filter_map(char::from_u32)
        .collect();
    for (name, prompt) in [
        ("every plane", planes.as_str()),
        ("control characters", "a\0b\u{1}\u{7f}\u{85}c"),
        ("marks", "a\u{300}\u{301}\u{302}\u{200d}\u{fe0f}\u{202e}b\u{2066}"),
        ("one flag, one family", "🇩🇪 👩‍👩‍👧‍👦"),
        ("a byte order mark", "\u{feff}a star"),
    ] {
        let (status, reply) = generate(quick(json!({ "prompt": prompt, "negative_prompt": prompt })));
        assert_eq!(status, 200, "{name}: {reply}");
    }
    let (status, reply) = generate(quick(json!({ "prompt": "a star ".repeat(10_000) })));
    assert_eq!(status, 200, "{reply}");
    let long = json!({ "prompt": "é".repeat(1 << 20) }).to_string();
    assert_refused("a prompt of a million characters", post("/v1/images/generations", long.as_bytes()));
    let long = json!({ "captions": ["é".repeat(1 << 20)] }).to_string();
    assert_refused("a caption of a million characters", post("/v1/encode", long.as_bytes()));
    assert_refused("an empty prompt", generate(quick(json!({ "prompt": " \u{a0}\n" }))));
}

/// A PNG chunk with its checksum.
fn chunk(kind: &[u8; 4], data: &[u8]) -> Vec<u8> {
    let crc = |bytes: &[u8]| {
        !bytes.iter().fold(u32::MAX, |crc, byte| {
            (0..8).fold(crc ^ u32::from(*byte), |crc, _| if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 })
        })
    };
    let named = [kind.as_slice(), data].concat();
    [&(data.len() as u32).to_be_bytes()[..], &named, &crc(&named).to_be_bytes()].concat()
}

/// A PNG of `sides`, colour type and depth, with `more` chunks and the uncompressed rows `rows`.
fn png(sides: [u32; 2], colour: u8, depth: u8, more: &[Vec<u8>], rows: &[u8]) -> Vec<u8> {
    let header = [&sides[0].to_be_bytes()[..], &sides[1].to_be_bytes(), &[depth, colour, 0, 0, 0]].concat();
    let (low, high) = rows.iter().fold((1_u32, 0_u32), |(low, high), byte| {
        let low = (low + u32::from(*byte)) % 65_521;
        (low, (high + low) % 65_521)
    });
    let length = u16::try_from(rows.len()).expect("one stored block");
    let stored =
        [&[0x78, 1, 1][..], &length.to_le_bytes(), &(!length).to_le_bytes(), rows, &(high << 16 | low).to_be_bytes()];
    [
        &b"\x89PNG\r\n\x1a\n"[..],
        &chunk(b"IHDR", &header),
        &more.concat(),
        &chunk(b"IDAT", &stored.concat()),
        &chunk(b"IEND", b""),
    ]
    .concat()
}

fn over(field: &str, file: &[u8]) -> (u16, Value) {
    let mut request = quick(json!({ "image": STANDARD.encode(png([8, 8], 0, 8, &[], &[0; 72])), "strength": 1.0 }));
    request[field] = STANDARD.encode(file).into();
    generate(request)
}

#[test]
fn every_kind_of_png_is_an_input_image() {
    let palette = chunk(b"PLTE", &[1, 2, 3, 200, 100, 0]);
    let frames = [
        chunk(b"acTL", &[0, 0, 0, 1, 0, 0, 0, 0]),
        chunk(b"fcTL", &[0, 0, 0, 0, 0, 0, 0, 8, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 1, 0, 0]),
    ];
    let rows = |bytes: usize| vec![0; 8 * (1 + bytes)];
    for (name, file) in [
        ("one bit", png([8, 8], 0, 1, &[], &rows(1))),
        ("grey of 16 bits", png([8, 8], 0, 16, &[], &rows(16))),
        ("grey with alpha", png([8, 8], 4, 8, &[], &rows(16))),
        ("grey with alpha of 16 bits", png([8, 8], 4, 16, &[], &rows(32))),
        ("RGB of 16 bits", png([8, 8], 2, 16, &[], &rows(48))),
        ("RGBA", png([8, 8], 6, 8, &[], &rows(32))),
        ("RGBA of 16 bits", png([8, 8], 6, 16, &[], &rows(64))),
        ("a palette", png([8, 8], 3, 8, std::slice::from_ref(&palette), &rows(8))),
        ("a palette with transparency", png([8, 8], 3, 8, &[palette.clone(), chunk(b"tRNS", &[0])], &rows(8))),
        ("a palette of one bit", png([8, 8], 3, 1, &[palette], &rows(1))),
        ("one pixel", png([1, 1], 0, 8, &[], &[0, 7])),
        ("one row", png([300, 1], 0, 8, &[], &[0; 301])),
        ("an animation", png([8, 8], 0, 8, &frames, &rows(8))),
    ] {
        for field in ["image", "mask_image"] {
            let (status, reply) = over(field, &file);
            assert_eq!(status, 200, "{name} as {field}: {reply}");
        }
    }
}

#[test]
fn an_input_image_that_cannot_be_read_is_one_fault() {
    let good = png([8, 8], 2, 8, &[], &[0; 200]);
    let large = |sides| png(sides, 0, 1, &[], &[0; 100]);
    let mut cases = vec![
        ("text", b"not an image".to_vec()),
        ("only a signature", good[..8].to_vec()),
        ("a width of 0", png([0, 8], 0, 8, &[], &[0; 8])),
        ("a height of 0", png([8, 0], 0, 8, &[], &[])),
        ("65,000 by 65,000 pixels", large([65_000, 65_000])),
        ("the largest sides", large([i32::MAX as u32, i32::MAX as u32])),
        ("sides beyond PNG's", large([u32::MAX, u32::MAX])),
        ("a palette that is not there", png([8, 8], 3, 8, &[], &[0; 72])),
        ("a colour type that there is not", png([8, 8], 5, 8, &[], &[0; 72])),
        ("a depth that there is not", png([8, 8], 2, 4, &[], &[0; 200])),
        ("fewer rows than the header says", png([8, 8], 2, 8, &[], &[0; 100])),
        ("a filter that there is not", png([8, 8], 0, 8, &[], &[9; 72])),
        (
            "a GIF",
            STANDARD
                .decode("R0lGODdhCAAIAIEAAMgePAAAAAAAAAAAACwAAAAACAAIAAAIDwABCBxIsKDBgwgTKkwYEAA7")
                .expect("base64"),
        ),
        ("the start of a JPEG", b"\xff\xd8\xff\xe0\0\x10JFIF\0".to_vec()),
        ("the start of a WebP", b"RIFF\x10\0\0\0WEBPVP8 \0\0\0\0".to_vec()),
        (
            "a JPEG of 65,500 by 65,500 pixels",
            b"\xff\xd8\xff\xc0\0\x11\x08\xff\xdc\xff\xdc\x03\x01\x22\0\x02\x11\x01\x03\x11\x01\xff\xd9".to_vec(),
        ),
        (
            "a WebP of 16,384 by 16,384 pixels",
            b"RIFF\x1a\0\0\0WEBPVP8L\x0d\0\0\0\x2f\xff\xff\xff\x0f\0\0\0\0\0\0\0\0\0".to_vec(),
        ),
    ];
    for end in [9, 20, 33, 40, 60, good.len() / 2, good.len() - 17] {
        cases.push(("a truncated file", good[..end].to_vec()));
    }
    for (name, file) in cases {
        for field in ["image", "mask_image"] {
            assert_refused(&format!("{name} as {field}"), over(field, &file));
        }
    }
}

#[test]
fn a_damaged_input_image_is_read_or_refused() {
    let jpeg = "/9j/7gAOQWRvYmUAZAAAAAAA/9sAQwAbEhQXFBEbFxYXHhwbIChCKyglJShROj0wQmBVZWRfVV1baniZgWpxkHNbXYW1hpCeo6utq2eAvMm6pseZqKuk/8AAFAgACAAIBEMRAE0RAFkRAEsRAP/EAB8AAAEFAQEBAQEBAAAAAAAAAAABAgMEBQYHCAkKC//EALUQAAIBAwMCBAMFBQQEAAABfQECAwAEEQUSITFBBhNRYQcicRQygZGhCCNCscEVUtHwJDNicoIJChYXGBkaJSYnKCkqNDU2Nzg5OkNERUZHSElKU1RVVldYWVpjZGVmZ2hpanN0dXZ3eHl6g4SFhoeIiYqSk5SVlpeYmZqio6Slpqeoqaqys7S1tre4ubrCw8TFxsfIycrS09TV1tfY2drh4uPk5ebn6Onq8fLz9PX29/j5+v/aAA4EQwBNAFkASwAAPwDVrCrLrpq//9k=";
    let webp = "UklGRsIAAABXRUJQVlA4WAoAAAACAAAABwAABwAAQU5JTQYAAAAAAAAAAABBTk1GRAAAAAAAAAAAAAcAAAcAAAAAAAJWUDggLAAAADABAJ0BKggACABAQCYloAADcAD+8Por/w7ubr1rf//eM//+4z//7jP/dwAAQU5NRkoAAAAAAAAAAAAHAAAHAAAAAAAAVlA4IDIAAAA0AQCdASoIAAgAAAAmJaAAA3AA/uC5f//sZv/+nd//07v7dH//3nz//ufP/+58/5xgAA==";
    let still = "UklGRjIAAABXRUJQVlA4ICYAAABwAQCdASoIAAgABABoJaACdAFAAAD+6WjkYaNf/jeP7lP8U+OgAA==";
    let files = [jpeg, webp, still].map(|text| STANDARD.decode(text).expect("base64"));
    let files = files.into_iter().chain([png([8, 8], 2, 8, &[], &[0; 200])]);
    for (index, file) in files.enumerate() {
        // Each byte of the header, then every seventh.
        for at in (0..file.len()).filter(|at| *at < 24 || at % 7 == 0) {
            let mut damaged = file.clone();
            damaged[at] ^= 0x55;
            let (status, reply) = over("image", &damaged);
            assert!([200, 400].contains(&status), "file {index}, byte {at}: {status} {reply}");
        }
        for end in (0..file.len()).step_by(11) {
            let (status, reply) = over("image", &file[..end]);
            assert!([200, 400].contains(&status), "file {index} of {end} bytes: {status} {reply}");
        }
        assert_next_is_answered("damaged images");
    }
}
