//! The pickle of a `.pth` file, read as data: a stack machine of those opcodes that `torch.save` writes, which builds
//! numbers, texts, containers and descriptions of tensors. A global is a name here; of all that a pickle may call, three are
//! known (`OrderedDict`, `torch._utils._rebuild_tensor_v2`, `_rebuild_parameter`), and any other is refused by name.
//!
//! Everything lies in one arena, so that no nesting recurses, and nothing is larger than the opcodes that made it.
//!
//! Source: Python's `pickletools.py`, protocol 2; torch's `serialization.py` and `_utils.py`.

use std::collections::BTreeMap;

use safetensors::Dtype;

use crate::StoredDtype;

/// What the machine works with. Containers are places in the arena.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Value {
    None,
    Bool(bool),
    Int(i64),
    Float,
    Text(usize),
    Tuple(usize),
    List(usize),
    Dict(usize),
    Global(Global),
    Storage(usize),
    Tensor(usize),
    Mark,
}

/// What a pickle may name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Global {
    OrderedDict,
    RebuildTensor,
    RebuildParameter,
    Storage(StoredDtype),
}

/// Numbers in a file of the archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Storage {
    /// Its name, a text.
    pub(crate) file: usize,
    pub(crate) dtype: StoredDtype,
}

/// A view of a storage, in numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct View {
    pub(crate) storage: Storage,
    pub(crate) offset: usize,
    pub(crate) shape: Vec<usize>,
    pub(crate) strides: Vec<usize>,
}

/// A pickle that was run.
#[derive(Default)]
pub(crate) struct Pickle {
    pub(crate) texts: Vec<String>,
    pub(crate) dicts: Vec<Vec<(Value, Value)>>,
    pub(crate) views: Vec<View>,
    tuples: Vec<Vec<Value>>,
    lists: Vec<Vec<Value>>,
    storages: Vec<Storage>,
    stack: Vec<Value>,
    memo: BTreeMap<u32, Value>,
}

type Outcome<T> = Result<T, String>;

impl Pickle {
    /// Runs `bytes`; its value, and where the value's parts lie.
    pub(crate) fn run(bytes: &[u8]) -> Outcome<(Self, Value)> {
        let (mut pickle, mut input) = (Self::default(), Input { bytes, at: 0 });
        loop {
            let at = input.at;
            let opcode = input.byte()?;
            if opcode == b'.' {
                let value = pickle.pop()?;
                return Ok((pickle, value));
            }
            pickle.step(opcode, &mut input).map_err(|why| format!("byte {at} of the pickle: {why}"))?;
        }
    }

    fn step(&mut self, opcode: u8, input: &mut Input<'_>) -> Outcome<()> {
        let value = match opcode {
            0x80 => return input.take(1).map(drop),                  // PROTO
            0x95 => return input.take(8).map(drop),                  // FRAME
            b'q' => return self.keep(input.byte()?.into()),          // BINPUT
            b'r' => return input.u32().and_then(|at| self.keep(at)), // LONG_BINPUT
            0x94 => return self.keep(self.memo.len() as u32),        // MEMOIZE
            b'h' => self.kept(input.byte()?.into())?,                // BINGET
            b'j' => input.u32().and_then(|at| self.kept(at))?,       // LONG_BINGET
            b'(' => Value::Mark,
            b'N' => Value::None,
            0x88 => Value::Bool(true),
            0x89 => Value::Bool(false),
            b'K' => Value::Int(input.byte()?.into()), // BININT1
            b'M' => Value::Int(u16::from_le_bytes(input.array()?).into()), // BININT2
            b'J' => Value::Int(i32::from_le_bytes(input.array()?).into()), // BININT
            0x8a => Value::Int(input.long()?),        // LONG1
            b'G' => input.take(8).map(|_| Value::Float)?, // BINFLOAT
            b'X' => input.u32().and_then(|length| self.text(input, length as usize))?, // BINUNICODE
            0x8c => input.byte().and_then(|length| self.text(input, length.into()))?, // SHORT_BINUNICODE
            b'c' => global(input.line()?, input.line()?).map(Value::Global)?, // GLOBAL
            0x93 => {
                let (name, module) = (self.pop_text()?, self.pop_text()?); // STACK_GLOBAL
                global(&self.texts[module], &self.texts[name]).map(Value::Global)?
            }
            b')' => placed(&mut self.tuples, Vec::new(), Value::Tuple),
            b']' => placed(&mut self.lists, Vec::new(), Value::List),
            b'}' => placed(&mut self.dicts, Vec::new(), Value::Dict),
            0x85..=0x87 => {
                let items = self.pop_many(usize::from(opcode - 0x84))?;
                placed(&mut self.tuples, items, Value::Tuple)
            }
            b't' => {
                let items = self.pop_to_mark()?;
                placed(&mut self.tuples, items, Value::Tuple)
            }
            b'a' | b'e' => {
                let items = if opcode == b'a' { self.pop_many(1)? } else { self.pop_to_mark()? };
                let Some(Value::List(list)) = self.stack.last() else { return Err("appends to no list".into()) };
                self.lists[*list].extend(items);
                return Ok(());
            }
            b's' | b'u' => {
                let items = if opcode == b's' { self.pop_many(2)? } else { self.pop_to_mark()? };
                let Some(Value::Dict(dict)) = self.stack.last() else { return Err("sets an item of no dict".into()) };
                let pairs = items.chunks_exact(2);
                if !pairs.remainder().is_empty() {
                    return Err("a key without a value".into());
                }
                self.dicts[*dict].extend(pairs.map(|pair| (pair[0], pair[1])));
                return Ok(());
            }
            b'Q' => self.storage()?, // BINPERSID
            b'R' => self.call()?,    // REDUCE
            b'b' => {
                // BUILD: what a state dict carries beside its items, such as its version.
                self.pop()?;
                return Ok(());
            }
            other => return Err(format!("the opcode 0x{other:02x} is not one that tensors are saved with")),
        };
        self.stack.push(value);
        Ok(())
    }

    fn pop(&mut self) -> Outcome<Value> {
        self.stack.pop().filter(|value| *value != Value::Mark).ok_or_else(|| "takes a value that is not there".into())
    }

    fn pop_many(&mut self, count: usize) -> Outcome<Vec<Value>> {
        let mut items: Vec<Value> = (0..count).map(|_| self.pop()).collect::<Outcome<_>>()?;
        items.reverse();
        Ok(items)
    }

    fn pop_to_mark(&mut self) -> Outcome<Vec<Value>> {
        let mark = self.stack.iter().rposition(|value| *value == Value::Mark).ok_or("no mark was set")?;
        let items = self.stack.split_off(mark + 1);
        self.stack.pop();
        Ok(items)
    }

    fn pop_text(&mut self) -> Outcome<usize> {
        if let Value::Text(text) = self.pop()? { Ok(text) } else { Err("a name that is no text".into()) }
    }

    fn pop_tuple(&mut self) -> Outcome<Vec<Value>> {
        if let Value::Tuple(tuple) = self.pop()? { Ok(self.tuples[tuple].clone()) } else { Err("no tuple".into()) }
    }

    fn keep(&mut self, at: u32) -> Outcome<()> {
        let top = *self.stack.last().ok_or("there is nothing to remember")?;
        self.memo.insert(at, top);
        Ok(())
    }

    fn kept(&self, at: u32) -> Outcome<Value> {
        self.memo.get(&at).copied().ok_or_else(|| format!("nothing was remembered as {at}"))
    }

    fn text(&mut self, input: &mut Input<'_>, length: usize) -> Outcome<Value> {
        let text = std::str::from_utf8(input.take(length)?).map_err(|error| error.to_string())?.to_owned();
        Ok(placed(&mut self.texts, text, Value::Text))
    }

    /// `("storage", class, file, device, count)`.
    fn storage(&mut self) -> Outcome<Value> {
        let parts = self.pop_tuple()?;
        let [Value::Text(kind), Value::Global(Global::Storage(dtype)), Value::Text(file), _, Value::Int(_)] = parts[..]
        else {
            return Err("a persistent object that is no storage".into());
        };
        if self.texts[kind] != "storage" {
            return Err(format!("a persistent object of the kind `{}`", self.texts[kind]));
        }
        Ok(placed(&mut self.storages, Storage { file, dtype }, Value::Storage))
    }

    fn call(&mut self) -> Outcome<Value> {
        let arguments = self.pop_tuple()?;
        match self.pop()? {
            Value::Global(Global::OrderedDict) if arguments.is_empty() => {
                Ok(placed(&mut self.dicts, Vec::new(), Value::Dict))
            }
            Value::Global(Global::RebuildParameter) => match arguments.first() {
                Some(tensor @ Value::Tensor(_)) => Ok(*tensor),
                _ => Err("a parameter of no tensor".into()),
            },
            Value::Global(Global::RebuildTensor) => {
                let [Value::Storage(storage), Value::Int(offset), Value::Tuple(shape), Value::Tuple(strides), ..] =
                    arguments[..]
                else {
                    return Err("a tensor of other parts than a storage, an offset, a shape and strides".into());
                };
                let sizes = |tuple: usize| {
                    let size = |value: &Value| match value {
                        Value::Int(size) => usize::try_from(*size).ok(),
                        _ => None,
                    };
                    self.tuples[tuple].iter().map(size).collect::<Option<Vec<_>>>().ok_or("a size that is no count")
                };
                let (shape, strides) = (sizes(shape)?, sizes(strides)?);
                let offset = usize::try_from(offset).map_err(|_| "an offset below 0")?;
                if shape.len() != strides.len() {
                    return Err("a shape and strides of different ranks".into());
                }
                let view = View { storage: self.storages[storage], offset, shape, strides };
                Ok(placed(&mut self.views, view, Value::Tensor))
            }
            _ => Err("calls what is no function".into()),
        }
    }
}

fn placed<T>(arena: &mut Vec<T>, item: T, value: impl Fn(usize) -> Value) -> Value {
    arena.push(item);
    value(arena.len() - 1)
}

fn global(module: &str, name: &str) -> Outcome<Global> {
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
        ("collections", "OrderedDict") => Some(Global::OrderedDict),
        ("torch._utils", "_rebuild_tensor_v2") => Some(Global::RebuildTensor),
        ("torch._utils", "_rebuild_parameter") => Some(Global::RebuildParameter),
        ("torch", class) => class.strip_suffix("Storage").and_then(dtype).map(Global::Storage),
        _ => None,
    }
    .ok_or_else(|| format!("it names `{module}.{name}`, which tensors are not saved with"))
}

/// Bytes from front to back.
struct Input<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Input<'a> {
    fn take(&mut self, count: usize) -> Outcome<&'a [u8]> {
        let taken = self.bytes.get(self.at..).and_then(|rest| rest.get(..count));
        self.at += count;
        taken.ok_or_else(|| "the pickle ends too early".into())
    }

    fn array<const COUNT: usize>(&mut self) -> Outcome<[u8; COUNT]> {
        Ok(self.take(COUNT)?.try_into().expect("as many were taken"))
    }

    fn byte(&mut self) -> Outcome<u8> {
        Ok(self.array::<1>()?[0])
    }

    fn u32(&mut self) -> Outcome<u32> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    /// A signed number of up to eight bytes, behind its length.
    fn long(&mut self) -> Outcome<i64> {
        let length = self.byte()?;
        let bytes = self.take(length.into())?;
        if bytes.len() > 8 {
            return Err(format!("a number of {length} bytes"));
        }
        let negative = bytes.last().is_some_and(|byte| byte & 0x80 != 0);
        let mut wide = [if negative { 0xff } else { 0 }; 8];
        wide[..bytes.len()].copy_from_slice(bytes);
        Ok(i64::from_le_bytes(wide))
    }

    fn line(&mut self) -> Outcome<&'a str> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let length = rest.iter().position(|byte| *byte == b'\n').ok_or("a name without an end")?;
        self.at += length + 1;
        std::str::from_utf8(&rest[..length]).map_err(|error| error.to_string())
    }
}
