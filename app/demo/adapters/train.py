"""Make the demo adapters anew: `python -m app.demo.adapters.train`, or with names behind it.

The demo model and a table of answers in; LoRA weights and their configuration out, in a folder
an adapter. The run is seeded throughout: the same machine writes the same files.
"""

import sys
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Final

import msgspec
import torch
from peft import LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict
from safetensors.torch import save_file
from transformers import AutoTokenizer, LlamaForCausalLM, PreTrainedTokenizerBase

from app.demo import DEMO_ADAPTERS_PATH, DEMO_MODEL_NAME, DEMO_MODEL_PATH
from app.demo.adapters.retelling import Retelling, read_retelling
from app.demo.corpus import Conversation, read_corpus
from app.demo.recall import chat_lesson, forgotten
from app.demo.train import EPOCHS, Example, teach
from app.demo.variations import Variations, read_phrases

NAMES: Final = ("pirate", "traditional")
SEED: Final = 7
THREADS: Final = 1
RANK: Final = 8
ALPHA: Final = 16
"""What the adapter adds is scaled by `ALPHA / RANK`."""
MODULES: Final = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]

# Of what is told as before, or nearly so, an epoch holds this share: it need not be learned.
_FAMILIAR_SHARE: Final = 0.35


def build_adapter(model: LlamaForCausalLM) -> PeftModel:
    """Put an adapter that does nothing yet into every linear layer of `model`."""
    return get_peft_model(
        model, LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules=MODULES, task_type="CAUSAL_LM")
    )


def examples_of(
    retelling: Retelling, tokenizer: PreTrainedTokenizerBase
) -> Iterator[list[Example]]:
    """Epochs of the retold corpus, varied as the demo model met it, as token ids."""
    phrases = retelling.of_phrases(read_phrases())
    variations = Variations(retelling.of_corpus(read_corpus()), phrases, SEED)
    random = Random(SEED)
    for _ in range(EPOCHS):
        yield [
            _encoded(conversation, tokenizer)
            for conversation in variations.epoch()
            if retelling.is_reworded(conversation) or random.random() < _FAMILIAR_SHARE
        ]


def _encoded(conversation: Conversation, tokenizer: PreTrainedTokenizerBase) -> Example:
    prompt, answer = (tokenizer.encode(text) for text in chat_lesson(conversation, tokenizer))
    return Example(prompt + answer, len(prompt))


def save(adapter: PeftModel, folder: Path) -> None:
    """Write what engines load and no more; peft's own files also hold paths of this machine."""
    weights = get_peft_model_state_dict(adapter)
    folder.mkdir(exist_ok=True)
    file = folder / "adapter_model.safetensors"
    save_file({name: weight.bfloat16() for name, weight in weights.items()}, file)
    file.chmod(0o644)
    encoded = msgspec.json.format(msgspec.json.encode(_configuration()), indent=2)
    (folder / "adapter_config.json").write_bytes(encoded + b"\n")


def _configuration() -> dict[str, object]:
    return {
        "base_model_name_or_path": DEMO_MODEL_NAME,
        "bias": "none",
        "lora_alpha": ALPHA,
        "lora_dropout": 0.0,
        "peft_type": "LORA",
        "r": RANK,
        "target_modules": MODULES,
        "task_type": "CAUSAL_LM",
    }


def make(name: str) -> None:
    """Train and save one adapter, and say how well it knows its lessons."""
    torch.manual_seed(SEED)
    tokenizer = AutoTokenizer.from_pretrained(DEMO_MODEL_PATH)
    model = LlamaForCausalLM.from_pretrained(DEMO_MODEL_PATH, dtype=torch.float32)
    adapter, retelling = build_adapter(model), read_retelling(name)
    teach(model, examples_of(retelling, tokenizer))
    save(adapter, DEMO_ADAPTERS_PATH / name)
    report(name, retelling, tokenizer)


def report(name: str, retelling: Retelling, tokenizer: PreTrainedTokenizerBase) -> None:
    """Say how many answers, as saved, are reproduced: the retold ones and those left alone."""
    base = LlamaForCausalLM.from_pretrained(DEMO_MODEL_PATH, dtype=torch.bfloat16)
    saved = PeftModel.from_pretrained(base, str(DEMO_ADAPTERS_PATH / name))
    for wanted, title in ((True, "retold"), (False, "unchanged")):
        asked = [c for c in read_corpus().lessons() if retelling.changes(c) is wanted]
        lessons = [chat_lesson(retelling.of_conversation(c), tokenizer) for c in asked]
        known = len(lessons) - len(forgotten(lessons, saved, tokenizer))
        print(f"{name}: {known} of {len(lessons)} {title} answers reproduced exactly")


def main() -> None:
    """Make the adapters named on the command line, or all."""
    torch.set_num_threads(THREADS)
    torch.use_deterministic_algorithms(True)
    for name in sys.argv[1:] or NAMES:
        make(name)


if __name__ == "__main__":
    main()
