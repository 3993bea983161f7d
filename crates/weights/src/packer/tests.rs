//! Small checkpoints are packed into memory, read again and compared with what they were made of.

use std::rc::Rc;

use futures_lite::future::block_on;
use safetensors::Dtype;
use safetensors::tensor::TensorView;

use super::*;
use crate::manifest::{ALIGNMENT, shard_name};
use crate::{ColumnOrder, QuantizedMatrix, Reader, Weights, dequantize, quantize, transposed};

const FILE: &str = "transformer/diffusion_pytorch_model.safetensors";

/// Keeps shards in memory; their hash is a checksum that is long enough.
#[derive(Clone, Default)]
struct MemorySink(Rc<std::cell::RefCell<BTreeMap<String, Vec<u8>>>>);

fn hash(bytes: &[u8]) -> String {
    let sum = bytes.iter().fold(7_u64, |sum, byte| sum.wrapping_mul(31).wrapping_add(u64::from(*byte)));
    format!("{sum:016x}").repeat(4)
}

impl ShardSink for MemorySink {
    fn begin(&mut self, _bytes: u64) -> Pin<Box<dyn Future<Output = Result<(), Error>> + '_>> {
        Box::pin(std::future::ready(Ok(())))
    }

    fn put<'a>(
        &'a mut self,
        section: &'a str,
        index: usize,
        bytes: &'a [u8],
    ) -> Pin<Box<dyn Future<Output = Result<String, Error>> + 'a>> {
        let hash = hash(bytes);
        self.0.borrow_mut().insert(shard_name(section, index, &hash), bytes.to_vec());
        Box::pin(std::future::ready(Ok(hash)))
    }
}

impl Reader for MemorySink {
    fn read(&self, path: &str, range: Range<u64>) -> ReadFuture {
        let shard = self.0.borrow().get(path).cloned().expect("it was kept");
        Box::pin(std::future::ready(Ok(shard[range.start as usize..range.end as usize].to_vec())))
    }
}

fn values(seed: u32, count: usize) -> Vec<f32> {
    (0..count as u32).map(|i| ((i.wrapping_mul(2_654_435_761) ^ seed) >> 9) as f32 / 4_194_304.0 - 1.0).collect()
}

type Tensor = (&'static str, Vec<usize>, Vec<f32>);

/// A matrix of many bands, one that fits nothing but f32, a convolution, a vector, and what no network reads.
fn tensors() -> Vec<Tensor> {
    let tensor = |(seed, (name, shape)): (u32, (&'static str, &[usize]))| {
        (name, shape.to_vec(), values(seed, shape.iter().product()))
    };
    let shapes: [(&str, &[usize]); 6] = [
        ("blocks.10.w", &[24, 64]),
        ("blocks.2.w", &[8_200, 128]),
        ("bias", &[5]),
        ("conv", &[3, 2, 2, 2]),
        ("odd.w", &[6, 10]),
        ("unread", &[2]),
    ];
    (1..).zip(shapes).map(tensor).collect()
}

fn checkpoint(tensors: &[Tensor]) -> Folder {
    let bytes: Vec<Vec<u8>> =
        tensors.iter().map(|(.., values)| values.iter().flat_map(|value| value.to_le_bytes()).collect()).collect();
    let views = tensors.iter().zip(&bytes).map(|((name, shape, _), bytes)| {
        (*name, TensorView::new(Dtype::F32, shape.clone(), bytes).expect("the shape fits the bytes"))
    });
    let mut folder = Folder::default();
    folder.insert(FILE, safetensors::serialize(views, None).expect("serialises"));
    folder.insert("model_index.json", br#"{"_class_name": "PixArtAlphaPipeline"}"#.to_vec());
    folder.insert("tokenizer/spiece.model", vec![1, 2, 3]);
    folder
}

fn policy(format: WeightFormat) -> impl Fn(SourceTensor<'_>) -> Option<(&'static str, TensorLayout)> {
    move |SourceTensor { name, shape, .. }| match *shape {
        _ if name == "unread" => None,
        [rows, columns] => Some(("transformer", TensorLayout::matrix(format, [rows, columns]))),
        _ => Some(("transformer", TensorLayout::row_major(crate::StoredDtype::F32))),
    }
}

fn packed(
    folder: &Folder,
    format: WeightFormat,
    change: impl FnOnce(&mut Packer<'_>),
) -> (MemorySink, Result<Manifest, Error>) {
    let (policy, mut kept) = (policy(format), MemorySink::default());
    let mut packer = Packer {
        policy: &policy,
        weight_format: format,
        shard_bytes: 100_000,
        license: "MIT".into(),
        source: "a test".into(),
        networks: &["transformer", "text_encoder"],
        in_file_order: false,
        finished_shards: BTreeMap::new(),
    };
    change(&mut packer);
    let manifest = block_on(packer.pack(folder, &mut kept));
    (kept, manifest)
}

#[test]
fn what_is_packed_is_read_again() {
    for format in [WeightFormat::F32, WeightFormat::F16, WeightFormat::Q8, WeightFormat::Q4Affine, WeightFormat::Q4] {
        let (kept, manifest) = packed(&checkpoint(&tensors()), format, |_| ());
        let manifest = manifest.expect("it is packed");
        assert_eq!(Manifest::read(&manifest.to_json()), Ok(manifest.clone()), "it is its own reader's");
        assert_eq!((manifest.pipeline.as_str(), manifest.sections.len()), ("PixArtAlphaPipeline", 2));
        let mut folder = Folder::default();
        let reader: Rc<dyn Reader> = Rc::new(kept);
        folder.insert_packed(manifest, &reader);
        assert_eq!(block_on(folder.whole("tokenizer/spiece.model")), Ok(vec![1, 2, 3]));
        let weights = block_on(Weights::open(&folder, "transformer", "unused")).expect("it is read");
        assert!(!weights.contains("unread"));
        for (name, shape, values) in tensors().into_iter().filter(|(name, ..)| *name != "unread") {
            let got = block_on(weights.f32(name, &shape)).expect("it is there");
            let [rows, columns] = *shape else {
                assert_eq!(got, values, "{name}");
                continue;
            };
            let stored_as = if format.fits(columns, rows) { format } else { WeightFormat::F32 };
            let across = transposed(&values, rows, columns);
            let matrix = block_on(weights.matrix(name, [rows, columns], WeightFormat::F32)).expect("it is there");
            assert_eq!(matrix.format, stored_as);
            // Bands are packed one by one, and give what the whole gives.
            assert_eq!(matrix.words, quantize(&across, [columns, rows], stored_as), "{name} as {format}");
            let whole = dequantize(&matrix.words, [columns, rows], stored_as);
            assert_eq!(got, transposed(&whole, columns, rows), "{name} as {format}");
            let smaller = block_on(weights.matrix(name, [rows, columns], WeightFormat::Q4)).expect("it is there");
            let smallest = if WeightFormat::Q4.fits(columns, rows) { WeightFormat::Q4 } else { stored_as };
            assert_eq!(smaller.format, smallest, "{name} from {format}");
        }
    }
}

#[test]
fn packed_matrices_are_merged_as_they_are_read() {
    let tensor = |seed, name: &'static str| (name, vec![96, 64], values(seed, 96 * 64));
    let tensors = [tensor(1, "blocks.0.q"), tensor(2, "blocks.0.k"), tensor(3, "blocks.0.v")];
    let names: Vec<String> = tensors.iter().map(|(name, ..)| (*name).to_owned()).collect();
    for format in [WeightFormat::F16, WeightFormat::Q8, WeightFormat::Q4Affine, WeightFormat::Q4] {
        // Shards end within a row.
        let (kept, manifest) = packed(&checkpoint(&tensors), format, |packer| packer.shard_bytes = 1_000);
        let (mut folder, reader): (_, Rc<dyn Reader>) = (Folder::default(), Rc::new(kept));
        folder.insert_packed(manifest.expect("it is packed"), &reader);
        let weights = block_on(Weights::open(&folder, "transformer", "unused")).expect("it is read");
        let each = |name: &String| block_on(weights.matrix(name, [96, 64], format)).expect("it is there");
        let merged = |names: &[String], order| block_on(weights.merged_matrix(names, [96, 64], format, order));
        let (all, both) = (names.iter().map(each).collect::<Vec<_>>(), [each(&names[0]), each(&names[1])]);
        let concatenated = merged(&names, ColumnOrder::Concatenated).expect("they are there");
        let interleaved = merged(&names[..2], ColumnOrder::Interleaved).expect("they are there");
        if format == WeightFormat::F16 {
            assert_eq!((concatenated, interleaved), (None, None), "only integers are merged");
            continue;
        }
        assert_eq!(concatenated, Some(QuantizedMatrix::merged(all, ColumnOrder::Concatenated)), "{format}");
        assert_eq!(interleaved, Some(QuantizedMatrix::merged(both.into(), ColumnOrder::Interleaved)), "{format}");
        let more_precise =
            block_on(weights.merged_matrix(&names, [96, 64], WeightFormat::Q4, ColumnOrder::Concatenated));
        assert_eq!(
            more_precise.expect("they are there").is_some(),
            format == WeightFormat::Q4,
            "q8 for a device of q4"
        );
    }
}

#[test]
fn files_that_are_no_part_of_a_checkpoint_are_left_out() {
    let mut folder = checkpoint(&tensors());
    let known = ["scheduler/scheduler_config.json", "tokenizer/special_tokens_map.json", "transformer/config.json"];
    known.iter().for_each(|path| folder.insert(*path, b"{}".to_vec()));
    for other in [
        "transformer/config (1).json",
        "notes.json",
        "samples/config.json",
        "transformer/trainer_state.json",
        "transformer/diffusion_pytorch_model.safetensors.index.fp16.json",
        "vae/other.safetensors",
        "a b/c.json",
    ] {
        folder.insert(other, b"no JSON".to_vec());
    }
    let manifest = packed(&folder, WeightFormat::Q8, |_| ()).1.expect("it is packed");
    let configs: Vec<&str> = manifest.configs.keys().map(String::as_str).collect();
    assert_eq!(configs, ["model_index.json", known[0], known[1], known[2]]);
    assert_eq!(Manifest::read(&manifest.to_json()), Ok(manifest), "it opens");
}

#[test]
fn the_same_folder_gives_the_same_bytes_and_blocks_follow_by_their_numbers() {
    let folder = checkpoint(&tensors());
    let [(first, one), (second, other)] = [(); 2].map(|()| packed(&folder, WeightFormat::Q8, |_| ()));
    let manifest = one.expect("it is packed");
    assert_eq!((&manifest, &*first.0.borrow()), (&other.expect("it is packed"), &*second.0.borrow()));
    let section = manifest.sections.iter().find(|section| section.name == "transformer").expect("it is there");
    let names: Vec<&str> = section.tensors.iter().map(|tensor| tensor.name.as_str()).collect();
    assert_eq!(names, ["bias", "blocks.2.w", "blocks.10.w", "conv", "odd.w"]);
    assert!(section.shards.len() > 5 && section.tensors.iter().all(|tensor| tensor.offset % ALIGNMENT == 0));
}

#[test]
fn a_pass_that_was_interrupted_goes_on_with_the_shards_that_were_made() {
    let folder = checkpoint(&tensors());
    for in_file_order in [false, true] {
        let (whole, manifest) = packed(&folder, WeightFormat::Q8, |packer| packer.in_file_order = in_file_order);
        let manifest = manifest.expect("it is packed");
        let shards =
            &manifest.sections.iter().find(|section| section.name == "transformer").expect("it is there").shards;
        for made in 1..=shards.len() {
            let made: BTreeMap<_, _> = [("transformer".to_owned(), shards[..made].to_vec())].into();
            let count: usize = made.values().map(Vec::len).sum();
            let (rest, again) = packed(&folder, WeightFormat::Q8, |packer| {
                (packer.in_file_order, packer.finished_shards) = (in_file_order, made);
            });
            assert_eq!(again.as_ref(), Ok(&manifest), "after {count} shards");
            let rest = rest.0.borrow();
            assert_eq!(rest.len(), whole.0.borrow().len() - count, "after {count} shards");
            assert!(rest.iter().all(|(name, bytes)| whole.0.borrow()[name] == *bytes), "after {count} shards");
        }
    }
}

#[test]
fn what_cannot_be_packed_is_named() {
    let one = |value: f32| checkpoint(&[("w", vec![4, 4], [vec![0.0; 15], vec![value]].concat())]);
    let refused = |folder: &Folder, format| packed(folder, format, |_| ()).1.expect_err("it is refused");
    let error = refused(&one(f32::NAN), WeightFormat::F32);
    assert!(matches!(&error, Error::NotFinite { tensor, .. } if tensor == "w"), "{error}");
    let error = refused(&one(1e6), WeightFormat::F16);
    assert!(matches!(&error, Error::TooLargeForF16 { tensor, .. } if tensor == "w"), "{error}");
    assert!(packed(&one(1e6), WeightFormat::F32, |_| ()).1.is_ok());
    let error = refused(&Folder::default(), WeightFormat::F32);
    assert!(matches!(error, Error::MissingFile { .. }), "{error}");
}
