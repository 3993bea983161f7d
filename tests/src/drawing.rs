//! The checkpoint that ships with the page, drawn with natively: what a caller may do between two calls of the pipeline
//! changes no picture, and what was warmed up is all that a picture launches.

use std::ops::ControlFlow;
use std::path::Path;

use futures_lite::future::block_on;
use pixart_companion::device::{self, Kind, Opened};
use pixart_companion::{Encoder, Generator, Opening, TextFrom, TextOpening, checkpoint, decode};
use pixart_model::{DeviceLimits, Guidance, Pipeline, Plan, Progress, Taps, WarmUp, counted, image};
use pixart_protocol::{EncodeRequest, Generate, OutputType};
use pixart_weights::Folder;

use crate::gpu;

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

fn scenes() -> Folder {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../web/models/scenes");
    checkpoint::read(&folder, &[]).expect("the embedded checkpoint")
}

fn pipeline(opened: &Opened) -> Pipeline {
    block_on(Pipeline::load_within(&scenes(), &opened.device, opened.limits)).expect("the embedded checkpoint loads")
}

/// The picture's bytes, drawn in slices of `blocks`, and how many slices that took.
fn drawn(pipeline: &Pipeline, request: &Generate, guidance: Guidance, blocks: usize) -> (Vec<u8>, usize) {
    let resolved = pipeline.resolve(request).expect("the request is good");
    let caption = pipeline.encode(request, &resolved).expect("the prompt is read");
    let plan = Plan { guidance, ..pipeline.plan(request, &resolved).expect("it fits") };
    let mut denoise = pipeline.denoise(request, &resolved, None, caption, &plan).expect("the caption fits");
    let mut slices = 0;
    while denoise.advance(blocks, &mut Taps::off()) != Progress::Done {
        slices += 1;
    }
    let picture = pipeline.decode(denoise.into_latent(), &plan);
    (block_on(image::rgb8_read(picture, (&resolved).into())).expect("the picture is read").bytes, slices)
}

#[test]
fn a_picture_drawn_in_slices_is_the_picture_drawn_at_once() {
    let opened = device::open(Kind::Cpu).expect("the processor is there");
    let (pipeline, request) = (pipeline(&opened), request(4.5));
    let (whole, steps) = drawn(&pipeline, &request, Guidance::Together, usize::MAX);
    assert_eq!(steps, 2);
    for (guidance, blocks) in [(Guidance::Together, 1), (Guidance::Together, 3), (Guidance::InTurn, 3)] {
        let (sliced, slices) = drawn(&pipeline, &request, guidance, blocks);
        assert!(slices > steps, "{slices} slices of {blocks} blocks");
        assert!(sliced == whole, "slices of {blocks} blocks, {guidance:?}, give another picture");
    }
}

#[test]
fn a_picture_needs_no_shader_that_was_not_warmed_up() {
    let Some(opened) = gpu::opened() else { return };
    // Software adapters are not given half precision, but Mesa's has it.
    for shader_f16 in [false, true] {
        let opened = Opened { limits: DeviceLimits { shader_f16, ..opened.limits }, ..opened.clone() };
        let all = WarmUp::all(&scenes(), opened.limits).expect("the embedded checkpoint's configurations");
        let warm_up = || all.iter().for_each(|one| drop(one.launch(&opened.device)));
        let ((), warm) = counted(warm_up);
        assert!(warm.pipelines > 0, "nothing was launched");
        let pipeline = pipeline(&opened);
        let ((), both) = counted(|| {
            warm_up();
            drawn(&pipeline, &request(4.5), Guidance::Together, usize::MAX);
        });
        assert!(both.dispatches > warm.dispatches * 2, "nothing was drawn");
        assert_eq!(both.pipelines, warm.pipelines, "half precision {shader_f16}");
    }
}

#[test]
fn the_stages_one_by_one_draw_the_picture_of_the_whole() {
    let checkpoint = Path::new(env!("CARGO_MANIFEST_DIR")).join("../web/models/scenes");
    let asked = request(4.5);
    let opening = |text| Opening { checkpoint: checkpoint.clone(), text, ..Opening::default() };
    let draw = |opening, request: &Generate| {
        let generator = Generator::open(opening).expect("the embedded checkpoint loads");
        generator.draw(request, |_| ControlFlow::Continue(())).expect("the request is good").remove(0).file
    };
    let whole = draw(opening(TextFrom::Checkpoint), &asked);

    let captions = vec![String::new(), asked.prompt.clone()];
    let encoder = Encoder::open(&TextOpening { checkpoint: checkpoint.clone(), ..TextOpening::default() })
        .expect("the text encoder loads");
    let embeds = encoder.encode(&EncodeRequest::of(captions)).expect("the captions are good");
    drop(encoder);
    let latents = draw(opening(TextFrom::Stored(embeds)), &Generate { output_type: OutputType::Latent, ..asked });
    let path = Path::new("latents.safetensors");
    let staged = decode::decode(&checkpoint, Kind::Cpu, path, latents).expect("the decoder loads");
    let pixels = |file: &[u8]| image::from_png(file).expect("it is a PNG");
    assert_eq!(pixels(&staged), pixels(&whole));

    let other = pixart_companion::embeds::one("latents", &[1, 3, 8, 8], &[0.0; 192]);
    let fault = decode::decode(&checkpoint, Kind::Cpu, path, other).expect_err("it has three channels");
    assert!(fault.to_string().contains("has shape [1, 3, 8, 8], not [1, 4, rows, columns]"), "{fault}");
}
