//! The checkpoint that ships with the page, packed in every weight format: its images, its shaders and the detection of damage.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use futures_lite::future::block_on;
use pixart_companion::device::DeviceSpec;
use pixart_companion::pack::{self, PackOptions, check};
use pixart_companion::{ComponentPaths, ImageGenerator, LoadOptions, checkpoint};
use pixart_model::{Pipeline, PrewarmKernel, WeightFormat, count_launches, image, prewarm};
use pixart_protocol::GenerateRequest;

use crate::gpu;

const PROMPTS: [(&str, u32); 4] = [
    ("two yellow stars at night", 5),
    ("a small cat next to a tree on a blue background", 7),
    ("a green robot in the meadow", 9),
    ("a big pink house in the snow", 11),
];

fn scenes() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../web/models/scenes")
}

/// A temporary folder of a test, removed on drop.
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    pub(crate) fn new(name: &str) -> Self {
        // Tests run side by side, some in the same weight format.
        static MADE: AtomicU32 = AtomicU32::new(0);
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let dir = std::env::temp_dir().join(format!("pixart-{name}-{}-{number}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        Self(dir)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

pub(crate) fn packed(weight_format: WeightFormat) -> Scratch {
    let scratch = Scratch::new(&format!("{weight_format:?}"));
    let packing = PackOptions {
        from: scenes(),
        variant: None,
        components: ComponentPaths::default(),
        config: None,
        to: scratch.0.clone(),
        weight_format,
        shard_bytes: 1 << 20,
        license: None,
        source: None,
    };
    let report = pack::pack(&packing, |_| ()).expect("the embedded checkpoint is packed");
    assert!(report.shards > 8 && report.tensors > 300, "{report:?}");
    // A block of 32 normal values has its peak near 2.1σ: a step of q8 is 1/127 of it, of q4 about 1/8, and the error of rounding
    // is uniform: step/√12.
    let expected = match weight_format {
        WeightFormat::Q8 => Some(0.0048),
        WeightFormat::Q4 => Some(0.076),
        _ => None,
    };
    match (report.relative_rms_error, expected) {
        (Some(error), Some(expected)) => assert!((0.7..1.4).contains(&(error / expected)), "{weight_format}: {error}"),
        (error, expected) => assert_eq!(error, expected, "{weight_format}"),
    }
    scratch
}

/// Generates the images of the prompts and returns their pixels. The files differ, because their metadata names the checkpoint.
fn pixels_of(checkpoint: &Path) -> Vec<Vec<u8>> {
    let options = LoadOptions { checkpoint: checkpoint.to_owned(), ..LoadOptions::default() };
    let generator = ImageGenerator::open(options).expect("the checkpoint loads");
    let one = |(prompt, seed): (&str, u32)| {
        let request = GenerateRequest { seed, ..GenerateRequest::of(prompt) };
        let images = generator.generate(&request, |_| ControlFlow::Continue(())).expect("the request is valid");
        image::decode_image(&images[0].file).expect("a PNG").bytes
    };
    PROMPTS.map(one).to_vec()
}

/// 10·log₁₀(255² / mean squared difference), over all images.
fn psnr(images: &[Vec<u8>], references: &[Vec<u8>]) -> f64 {
    let (ours, theirs) = (images.concat(), references.concat());
    assert_eq!(ours.len(), theirs.len());
    let square = |(a, b): (&u8, &u8)| (f64::from(*a) - f64::from(*b)).powi(2);
    let mean = ours.iter().zip(&theirs).map(square).sum::<f64>() / ours.len() as f64;
    10.0 * (255.0 * 255.0 / mean).log10()
}

#[test]
fn a_packed_checkpoint_generates_the_images_of_its_folder() {
    let reference = pixels_of(&scenes());
    assert!(pixels_of(&packed(WeightFormat::F32).0) == reference, "f32 gives other pixels");
    for (format, floor) in [(WeightFormat::F16, 45.0), (WeightFormat::Q8, 40.0), (WeightFormat::Q4, 28.0)] {
        let images = pixels_of(&packed(format).0);
        let db = psnr(&images, &reference);
        println!("{format}: {db:.1} dB");
        assert!(db >= floor, "{format}: {db:.1} dB");
    }
    let mut rotated = reference.clone();
    rotated.rotate_left(1);
    assert!(psnr(&rotated, &reference) < 28.0, "different images have a low PSNR");
}

#[test]
fn a_packed_checkpoint_launches_prewarmed_shaders_alone() {
    let Some(opened) = gpu::opened() else { return };
    let scratch = packed(WeightFormat::Q8);
    let folder = checkpoint::read(&scratch.0, &[]).expect("it was written");
    let all = PrewarmKernel::all(&folder, opened.limits).expect("its configurations are packed with it");
    let prewarm_kernels = || all.iter().for_each(|one| drop(one.launch(&opened.device)));
    let ((), warm) = count_launches(prewarm_kernels);
    let pipeline = block_on(Pipeline::load(&folder, &opened.device, opened.limits, None)).expect("it loads");
    block_on(pipeline.load_text_encoder(&folder)).expect("it loads");
    let request = GenerateRequest { num_inference_steps: 2, ..GenerateRequest::of("a red circle") };
    let ((), both) = count_launches(|| {
        prewarm_kernels();
        let prepared = pipeline.prepare(&request).expect("the request is valid");
        assert!(prepared.plan.line().starts_with("q8 weights"), "{}", prepared.plan.line());
        let prompt_embeds = block_on(pipeline.encode(&prepared)).expect("the prompt is encoded");
        let image = pipeline.generate(&prepared, prompt_embeds, 0).expect("the embeddings fit");
        block_on(image::rgb8_read(image, prepared.size)).expect("the image is read");
    });
    assert!(both.dispatches > warm.dispatches * 2, "no image was generated");
    assert_eq!(both.pipelines, warm.pipelines);
    let (_, prewarmed) = count_launches(|| {
        prewarm_kernels();
        block_on(prewarm(&folder, &opened.device, opened.limits)).expect("its configurations are read")
    });
    assert!(prewarmed.dispatches > warm.dispatches * 2, "nothing was launched");
    assert_eq!(prewarmed.pipelines, warm.pipelines + 1, "the attention of the VAE");
}

#[test]
fn check_names_every_damaged_shard() {
    let scratch = packed(WeightFormat::Q4);
    let dir = &scratch.0;
    let components = ComponentPaths { transformer: Some("other.pth".into()), ..ComponentPaths::default() };
    let options = LoadOptions { checkpoint: dir.clone(), components, ..LoadOptions::default() };
    let error = ImageGenerator::open(options).err().expect("a packed checkpoint has its own transformer").to_string();
    assert!(error.contains("the transformer of a packed checkpoint cannot be replaced"), "{error}");
    assert_eq!(check(dir).expect("the manifest is read"), Vec::<String>::new());
    let mut shards: Vec<PathBuf> =
        std::fs::read_dir(dir).expect("it was written").map(|it| it.expect("listed").path()).collect();
    shards.retain(|path| path.extension().is_some_and(|extension| extension == "bin"));
    shards.sort();
    let change = |path: &Path, with: fn(&mut Vec<u8>)| {
        let mut bytes = std::fs::read(path).expect("it is there");
        with(&mut bytes);
        std::fs::write(path, bytes).expect("it is written");
    };
    change(&shards[0], |bytes| bytes[100] ^= 1);
    change(&shards[1], |bytes| bytes.truncate(1000));
    std::fs::remove_file(&shards[2]).expect("it is there");
    let faults = check(dir).expect("the manifest is read");
    for (fault, (shard, says)) in faults.iter().zip(shards.iter().zip(["its SHA-256 is", "1000 bytes", "No such file"]))
    {
        let name = shard.file_name().expect("it has one").to_string_lossy();
        assert!(fault.starts_with(&*name) && fault.contains(says), "{fault}");
    }
    assert_eq!(faults.len(), 3, "{faults:?}");
    let options = || LoadOptions { checkpoint: dir.clone(), device: DeviceSpec::Cpu, ..LoadOptions::default() };
    assert!(ImageGenerator::open(options()).is_err(), "shards are short, and missing");

    std::fs::write(dir.join("manifest.json"), "{}").expect("it is written");
    assert!(check(dir).is_err(), "that is no manifest");
    assert!(ImageGenerator::open(options()).is_err(), "that is no checkpoint");
}
