//! An unpickler for `.pth` files that executes nothing: a stack machine of the opcodes that `torch.save` writes, which builds
//! numbers, texts, containers and descriptions of tensors. Three globals are known (`OrderedDict`,
//! `torch._utils._rebuild_tensor_v2`, `_rebuild_parameter`). All others are refused by name.
//!
//! Values are in one arena, so that nesting does not recurse, and memory is proportional to the pickle.
//!
//! The crate pytorch-reader reads these files too. It is not used: it takes views that repeat one element up to gigabytes, and
//! its zip reader switches the `png` crate to another deflate, which would change the bytes of every image.
//!
//! Source: Python's `pickletools.py`, protocol 2; torch's `serialization.py` and `_utils.py`.

mod byte_reader;

use std::collections::BTreeMap;

use byte_reader::ByteReader;
use safetensors::Dtype;

use crate::StoredDtype;

/// The most axes of a tensor. Without a limit, many tensors that share one long shape would take unbounded memory.
const RANK_MAX: usize = 8;

/// A value on the stack. Texts, containers, storages and tensors are indices into the arena.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum PickleValue {
    None,
    Bool(bool),
    Int(i64),
    Float,
    Text(usize),
    Tuple(usize),
    List(usize),
    Dict(usize),
    Global(PickleGlobal),
    Storage(usize),
    Tensor(usize),
    Mark,
}

/// A global that a pickle may name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PickleGlobal {
    OrderedDict,
    RebuildTensor,
    RebuildParameter,
    Storage(StoredDtype),
}

/// A storage of torch: elements in a file of the archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TorchStorage {
    /// The index of its name in the texts.
    pub(crate) file: usize,
    pub(crate) dtype: StoredDtype,
}

/// A tensor: a strided view of a storage, counted in elements.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StorageView {
    pub(crate) storage: TorchStorage,
    pub(crate) offset: usize,
    pub(crate) shape: Vec<usize>,
    pub(crate) strides: Vec<usize>,
}

/// The stack, the memo and the arena of the machine.
#[derive(Default)]
pub(crate) struct Unpickler {
    pub(crate) texts: Vec<String>,
    pub(crate) dicts: Vec<Vec<(PickleValue, PickleValue)>>,
    pub(crate) views: Vec<StorageView>,
    tuples: Vec<Vec<PickleValue>>,
    lists: Vec<Vec<PickleValue>>,
    storages: Vec<TorchStorage>,
    stack: Vec<PickleValue>,
    memo: BTreeMap<u32, PickleValue>,
}

/// An error is the reason why the pickle is refused.
type Result<T> = std::result::Result<T, String>;

impl Unpickler {
    /// Runs a pickle and returns its value, with the arena that the value's indices refer to.
    pub(crate) fn run(bytes: &[u8]) -> Result<(Self, PickleValue)> {
        let (mut pickle, mut input) = (Self::default(), ByteReader::new(bytes));
        loop {
            let at = input.position();
            let opcode = input.byte()?;
            if opcode == b'.' {
                let value = pickle.pop()?;
                return Ok((pickle, value));
            }
            pickle.step(opcode, &mut input).map_err(|why| format!("byte {at} of the pickle: {why}"))?;
        }
    }

    fn step(&mut self, opcode: u8, input: &mut ByteReader<'_>) -> Result<()> {
        let value = match opcode {
            0x80 => return input.take(1).map(drop),                     // PROTO
            0x95 => return input.take(8).map(drop),                     // FRAME
            b'q' => return self.memoize(input.byte()?.into()),          // BINPUT
            b'r' => return input.u32().and_then(|at| self.memoize(at)), // LONG_BINPUT
            0x94 => return self.memoize(self.memo.len() as u32),        // MEMOIZE
            b'h' => self.recall(input.byte()?.into())?,                 // BINGET
            b'j' => input.u32().and_then(|at| self.recall(at))?,        // LONG_BINGET
            b'(' => PickleValue::Mark,
            b'N' => PickleValue::None,
            0x88 => PickleValue::Bool(true),
            0x89 => PickleValue::Bool(false),
            b'K' => PickleValue::Int(input.byte()?.into()), // BININT1
            b'M' => PickleValue::Int(u16::from_le_bytes(input.array()?).into()), // BININT2
            b'J' => PickleValue::Int(i32::from_le_bytes(input.array()?).into()), // BININT
            0x8a => PickleValue::Int(input.long()?),        // LONG1
            b'G' => input.take(8).map(|_| PickleValue::Float)?, // BINFLOAT
            b'X' => input.u32().and_then(|length| self.text(input, length as usize))?, // BINUNICODE
            0x8c => input.byte().and_then(|length| self.text(input, length.into()))?, // SHORT_BINUNICODE
            b'c' => global(input.line()?, input.line()?).map(PickleValue::Global)?, // GLOBAL
            0x93 => {
                let (name, module) = (self.pop_text()?, self.pop_text()?); // STACK_GLOBAL
                global(&self.texts[module], &self.texts[name]).map(PickleValue::Global)?
            }
            b')' => push(&mut self.tuples, Vec::new(), PickleValue::Tuple),
            b']' => push(&mut self.lists, Vec::new(), PickleValue::List),
            b'}' => push(&mut self.dicts, Vec::new(), PickleValue::Dict),
            0x85..=0x87 => {
                let items = self.pop_many(usize::from(opcode - 0x84))?;
                push(&mut self.tuples, items, PickleValue::Tuple)
            }
            b't' => {
                let items = self.pop_to_mark()?;
                push(&mut self.tuples, items, PickleValue::Tuple)
            }
            b'a' | b'e' => {
                let items = if opcode == b'a' { self.pop_many(1)? } else { self.pop_to_mark()? };
                let Some(PickleValue::List(list)) = self.stack.last() else {
                    return Err("appends to a value that is not a list".into());
                };
                self.lists[*list].extend(items);
                return Ok(());
            }
            b's' | b'u' => {
                let items = if opcode == b's' { self.pop_many(2)? } else { self.pop_to_mark()? };
                let Some(PickleValue::Dict(dict)) = self.stack.last() else {
                    return Err("sets an item of a value that is not a dict".into());
                };
                let pairs = items.chunks_exact(2);
                if !pairs.remainder().is_empty() {
                    return Err("a key has no value".into());
                }
                self.dicts[*dict].extend(pairs.map(|pair| (pair[0], pair[1])));
                return Ok(());
            }
            b'Q' => self.persistent_id()?, // BINPERSID
            b'R' => self.reduce()?,        // REDUCE
            b'b' => {
                // BUILD: attributes of a state dict besides its items, such as its version.
                self.pop()?;
                return Ok(());
            }
            other => return Err(format!("the opcode 0x{other:02x} is not one that torch.save writes for tensors")),
        };
        self.stack.push(value);
        Ok(())
    }

    fn pop(&mut self) -> Result<PickleValue> {
        self.stack.pop().filter(|value| *value != PickleValue::Mark).ok_or_else(|| "the stack is empty".into())
    }

    fn pop_many(&mut self, count: usize) -> Result<Vec<PickleValue>> {
        let mut items: Vec<PickleValue> = (0..count).map(|_| self.pop()).collect::<Result<_>>()?;
        items.reverse();
        Ok(items)
    }

    fn pop_to_mark(&mut self) -> Result<Vec<PickleValue>> {
        let mark = self.stack.iter().rposition(|value| *value == PickleValue::Mark).ok_or("the stack has no mark")?;
        let items = self.stack.split_off(mark + 1);
        self.stack.pop();
        Ok(items)
    }

    fn pop_text(&mut self) -> Result<usize> {
        if let PickleValue::Text(text) = self.pop()? { Ok(text) } else { Err("a name is not a text".into()) }
    }

    fn pop_tuple(&mut self) -> Result<usize> {
        if let PickleValue::Tuple(tuple) = self.pop()? {
            Ok(tuple)
        } else {
            Err("the arguments are not a tuple".into())
        }
    }

    fn memoize(&mut self, at: u32) -> Result<()> {
        let top = *self.stack.last().ok_or("memoizes a value that is not there")?;
        self.memo.insert(at, top);
        Ok(())
    }

    fn recall(&self, at: u32) -> Result<PickleValue> {
        self.memo.get(&at).copied().ok_or_else(|| format!("the memo has no value {at}"))
    }

    fn text(&mut self, input: &mut ByteReader<'_>, length: usize) -> Result<PickleValue> {
        let text = std::str::from_utf8(input.take(length)?).map_err(|error| error.to_string())?.to_owned();
        Ok(push(&mut self.texts, text, PickleValue::Text))
    }

    /// Resolves the persistent id of a storage: `("storage", class, file, device, count)`.
    fn persistent_id(&mut self) -> Result<PickleValue> {
        let parts = self.pop_tuple()?;
        let [
            PickleValue::Text(kind),
            PickleValue::Global(PickleGlobal::Storage(dtype)),
            PickleValue::Text(file),
            _,
            PickleValue::Int(_),
        ] = self.tuples[parts][..]
        else {
            return Err("a persistent id is not that of a storage".into());
        };
        if self.texts[kind] != "storage" {
            return Err(format!("a persistent id is of kind `{}`, not a storage", self.texts[kind]));
        }
        Ok(push(&mut self.storages, TorchStorage { file, dtype }, PickleValue::Storage))
    }

    /// Evaluates a call of one of the known globals.
    fn reduce(&mut self) -> Result<PickleValue> {
        let arguments = self.pop_tuple()?;
        let function = self.pop()?;
        let arguments = &self.tuples[arguments];
        match function {
            PickleValue::Global(PickleGlobal::OrderedDict) if arguments.is_empty() => {
                Ok(push(&mut self.dicts, Vec::new(), PickleValue::Dict))
            }
            PickleValue::Global(PickleGlobal::RebuildParameter) => match arguments.first() {
                Some(tensor @ PickleValue::Tensor(_)) => Ok(*tensor),
                _ => Err("the argument of a parameter is not a tensor".into()),
            },
            PickleValue::Global(PickleGlobal::RebuildTensor) => {
                let [
                    PickleValue::Storage(storage),
                    PickleValue::Int(offset),
                    PickleValue::Tuple(shape),
                    PickleValue::Tuple(strides),
                    ..,
                ] = arguments[..]
                else {
                    return Err("the arguments of a tensor are not a storage, an offset, a shape and strides".into());
                };
                let offset = usize::try_from(offset).map_err(|_| "the offset of a tensor is negative")?;
                let (shape, strides) = (self.sizes(shape)?, self.sizes(strides)?);
                if shape.len() != strides.len() {
                    return Err("the shape and the strides of a tensor have different ranks".into());
                }
                let view = StorageView { storage: self.storages[storage], offset, shape, strides };
                Ok(push(&mut self.views, view, PickleValue::Tensor))
            }
            _ => Err("calls a value that is not a function".into()),
        }
    }

    /// Returns the shape or the strides in a tuple.
    fn sizes(&self, tuple: usize) -> Result<Vec<usize>> {
        let sizes = &self.tuples[tuple];
        if sizes.len() > RANK_MAX {
            return Err(format!("a tensor has {} axes, and at most {RANK_MAX} are supported", sizes.len()));
        }
        let size = |value: &PickleValue| match value {
            PickleValue::Int(size) => usize::try_from(*size).ok(),
            _ => None,
        };
        sizes.iter().map(size).collect::<Option<_>>().ok_or_else(|| "a size of a tensor is not a count".into())
    }
}

fn push<T>(arena: &mut Vec<T>, item: T, value: impl Fn(usize) -> PickleValue) -> PickleValue {
    arena.push(item);
    value(arena.len() - 1)
}

fn global(module: &str, name: &str) -> Result<PickleGlobal> {
    let dtype = |class: &str| match class {
        "Float" => Some(StoredDtype::F32),
        "Half" => Some(StoredDtype::F16),
        "BFloat16" => Some(StoredDtype::Bf16),
        "Double" => Some(StoredDtype::Other(Dtype::F64)),
        "Long" => Some(StoredDtype::Other(Dtype::I64)),
        "Int" => Some(StoredDtype::Other(Dtype::I32)),
        "Short" => Some(StoredDtype::Other(Dtype::I16)),
        "Char" => Some(StoredDtype::Other(Dtype::I8)),
        "Byte" => Some(StoredDtype::U8),
        "Bool" => Some(StoredDtype::Other(Dtype::BOOL)),
        _ => None,
    };
    match (module, name) {
        ("collections", "OrderedDict") => Some(PickleGlobal::OrderedDict),
        ("torch._utils", "_rebuild_tensor_v2") => Some(PickleGlobal::RebuildTensor),
        ("torch._utils", "_rebuild_parameter") => Some(PickleGlobal::RebuildParameter),
        ("torch", class) => class.strip_suffix("Storage").and_then(dtype).map(PickleGlobal::Storage),
        _ => None,
    }
    .ok_or_else(|| format!("the pickle names `{module}.{name}`, which torch.save does not write for tensors"))
}
