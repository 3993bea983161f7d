//! The checkpoint that ships with the page, drawn with on the processor: what a caller may do between two calls of the
//! pipeline changes no picture.

use std::path::Path;

use futures_lite::future::block_on;
use pixart_companion::{checkpoint, device};
use pixart_model::{Guidance, Pipeline, Plan, Progress, Taps, image};
use pixart_protocol::Generate;

fn request(guidance: f64) -> Generate {
    Generate {
        seed: 7,
        steps: 2,
        guidance,
        width: Some(64),
        height: Some(64),
        ..Generate::of("a red circle on a blue background")
    }
}

fn pipeline() -> Pipeline {
    let scenes = Path::new(env!("CARGO_MANIFEST_DIR")).join("../web/models/scenes");
    let folder = checkpoint::read(&scenes, &[]).expect("the embedded checkpoint");
    let opened = device::open(device::Kind::Flex).expect("the processor is there");
    Pipeline::load_within(&folder, &opened.device, opened.limits).expect("the embedded checkpoint loads")
}

/// The picture's bytes, drawn in slices of `blocks`, and how many slices that took.
fn drawn(pipeline: &Pipeline, request: &Generate, guidance: Guidance, blocks: usize) -> (Vec<u8>, usize) {
    let caption = pipeline.encode(request).expect("the prompt is read");
    let plan = Plan { guidance, ..pipeline.plan(request).expect("it fits") };
    let mut denoise = pipeline.denoise(request, caption, &plan).expect("the request is good");
    let mut slices = 0;
    while denoise.advance(blocks, &mut Taps::off()) != Progress::Done {
        slices += 1;
    }
    let picture = pipeline.decode(denoise.into_latent(), &plan);
    let size = image::Size { height: 64, width: 64 };
    (block_on(image::rgb8_read(picture, size)).expect("the picture is read").bytes, slices)
}

#[test]
fn a_picture_drawn_in_slices_is_the_picture_drawn_at_once() {
    let (pipeline, request) = (pipeline(), request(4.5));
    let (whole, steps) = drawn(&pipeline, &request, Guidance::Together, usize::MAX);
    assert_eq!(steps, 2);
    for (guidance, blocks) in [(Guidance::Together, 1), (Guidance::Together, 3), (Guidance::InTurn, 3)] {
        let (sliced, slices) = drawn(&pipeline, &request, guidance, blocks);
        assert!(slices > steps, "{slices} slices of {blocks} blocks");
        assert!(sliced == whole, "slices of {blocks} blocks, {guidance:?}, give another picture");
    }
}
