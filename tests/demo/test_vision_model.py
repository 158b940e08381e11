"""What the demo vision model promises: it looks, at each picture, and says when there is none."""

from functools import cache
from random import Random

import pytest
import torch
from PIL.Image import Image
from safetensors.torch import load_file
from transformers import AutoProcessor, Idefics3ForConditionalGeneration, Idefics3Processor

from app.demo import DEMO_VISION_PATH
from app.demo.vision.drawing import COLOURS, SHAPES, Subject, any_size, any_subject, draw
from app.demo.vision.examples import Reader
from app.demo.vision.lessons import MOST_PICTURES, Lessons, asked
from app.demo.vision.phrases import Aspect, read_languages
from app.demo.vision.recognition import mistaken, unseen

SEED = 2026
"""Never used in training."""

CLEAR_SEED = 3000
"""Draws pictures that the model names with a wide margin (4 logits and more), so that the tests of
what it does with a picture do not hang on how well it sees: that is counted by those of accuracy.
"""

SUBJECTS = [Subject("red", "circle"), Subject("blue", "square"), Subject("orange", "star")]


@cache
def processor() -> Idefics3Processor:
    return AutoProcessor.from_pretrained(DEMO_VISION_PATH)


@cache
def model() -> Idefics3ForConditionalGeneration:
    return Idefics3ForConditionalGeneration.from_pretrained(DEMO_VISION_PATH, dtype=torch.bfloat16)


def drawn(subjects: list[Subject], seed: int = CLEAR_SEED) -> list[Image]:
    random = Random(seed)
    return [draw(random, *subject, (160, 120)) for subject in subjects]


def reply(content: object, pictures: list[Image]) -> str:
    """What the model writes greedily, through the processor and the chat template alone."""
    prompt = processor().apply_chat_template(
        [{"role": "user", "content": content}], add_generation_prompt=True
    )
    read = processor()(text=prompt, images=pictures or None, return_tensors="pt")
    written = model().generate(**read, max_new_tokens=64, do_sample=False)
    text = processor().batch_decode(written[:, read["input_ids"].shape[1] :])[0]
    return str(text).removesuffix("<|im_end|>")


def content(question: str, pictures: list[Image]) -> list[dict[str, str]]:
    return [{"type": "text", "text": question}, *({"type": "image"} for _ in pictures)]


def test_the_weights_fit_into_a_package() -> None:
    weights = DEMO_VISION_PATH / "model.safetensors"
    assert weights.stat().st_size <= 6_000_000
    assert sum(parameter.numel() for parameter in model().parameters()) <= 3_000_000
    assert {tensor.dtype for tensor in load_file(weights).values()} == {torch.bfloat16}


def test_the_shape_suits_the_engine_on_a_cpu() -> None:
    text, vision = model().config.text_config, model().config.vision_config
    assert text.head_dim == vision.hidden_size // vision.num_attention_heads == 32
    assert text.max_position_embeddings >= 2048


def test_nineteen_of_twenty_unseen_pictures_are_named_rightly() -> None:
    examples = unseen(processor(), 60, pictures=1, seed=SEED)
    assert len(mistaken(examples, model())) <= 3


def test_nine_of_ten_unseen_pairs_are_told_apart() -> None:
    examples = unseen(processor(), 30, pictures=2, seed=SEED + 1)
    assert len(mistaken(examples, model())) <= 3


def test_the_same_question_about_another_picture_gets_another_answer() -> None:
    answers = {reply(content("What is in the picture?", [p]), [p]) for p in drawn(SUBJECTS)}
    assert answers == {"A red circle.", "A blue square.", "An orange star."}


def test_pictures_are_named_in_the_order_in_which_they_are_sent() -> None:
    pictures = drawn(SUBJECTS[:2])
    question = content("What is in the pictures?", pictures)
    assert reply(question, pictures) == "The first is a red circle, the second a blue square."
    assert reply(question, pictures[::-1]) == "The first is a blue square, the second a red circle."


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("What is in this image?", "A red circle."),
        ("What colour is it?", "Red."),
        ("What color is it?", "Red."),
        ("What shape is it?", "A circle."),
        ("图片里是什么？", "红色的圆形。"),
        ("它是什么颜色？", "红色。"),
        ("它是什么形状？", "圆形。"),
        ("圖片裡是什麼？", "紅色的圓形。"),
    ],
)
def test_what_is_asked_is_answered_in_its_language(question: str, answer: str) -> None:
    pictures = drawn(SUBJECTS[:1])
    assert reply(content(question, pictures), pictures) == answer


@pytest.mark.parametrize(
    ("question", "language"),
    [
        ("What is in the picture?", "en"),
        ("What is the capital of France?", "en"),
        ("图片里是什么？", "zh-Hans"),
        ("圖片裡是什麼？", "zh-Hant"),
    ],
)
def test_without_a_picture_it_asks_for_one(question: str, language: str) -> None:
    assert reply(question, []) == read_languages()[language].without


def test_a_later_question_is_about_the_picture_of_an_earlier_turn() -> None:
    english = read_languages()["en"]
    lesson = asked(english, "thing", "What is this?", SUBJECTS[:1])
    lesson.messages.append({"role": "user", "content": "What colour is it?"})
    lesson.messages.append({"role": "assistant", "content": "Red."})
    example = Reader(processor()).read(lesson, drawn(SUBJECTS[:1]))
    assert mistaken([example], model()) == []


def test_lessons_are_read_as_the_processor_reads_them() -> None:
    lessons, reader, random = Lessons(SEED), Reader(processor()), Random(SEED)
    for lesson in (lessons.lesson() for _ in range(30)):
        pictures = [draw(random, *subject, any_size(random)) for subject in lesson.subjects]
        whole = reader.read(lesson, pictures)
        short = reader.read_seen(lesson, list(whole.pictures))
        assert whole.ids.tolist() == short.ids.tolist()
        assert whole.labels.tolist() == short.labels.tolist()


def test_a_picture_takes_nineteen_tokens_whatever_its_size() -> None:
    sizes = [(64, 64), (400, 250), (70, 400), (1200, 900)]
    pictures = [draw(Random(SEED), "red", "star", size) for size in sizes]
    lengths = {len(processor()(text="<image>", images=[p])["input_ids"][0]) for p in pictures}
    assert lengths == {19}


@pytest.mark.parametrize("aspect", ["thing", "colour", "shape"])
@pytest.mark.parametrize("number", range(1, MOST_PICTURES + 1))
def test_every_language_has_words_for_everything_that_is_drawn(aspect: Aspect, number: int) -> None:
    for language in read_languages().values():
        subjects = [Subject(colour, shape) for colour in COLOURS for shape in SHAPES]
        answers = {language.answer(aspect, [subject] * number) for subject in subjects}
        told = {"thing": len(subjects), "colour": len(COLOURS), "shape": len(SHAPES)}
        assert len(answers) == told[aspect]


def test_there_are_enough_colours_and_shapes_to_guess_among() -> None:
    assert len(COLOURS) >= 8
    assert len(SHAPES) >= 4


def test_a_seed_draws_the_same_picture_again_and_another_seed_does_not() -> None:
    def bytes_of(seed: int) -> bytes:
        random = Random(seed)
        return draw(random, *any_subject(random), any_size(random)).tobytes()

    assert [bytes_of(seed) for seed in range(20)] == [bytes_of(seed) for seed in range(20)]
    assert len({bytes_of(seed) for seed in range(20)}) == 20


@pytest.mark.parametrize("size", [(64, 64), (400, 250), (70, 400)])
@pytest.mark.parametrize("shape", SHAPES)
def test_a_drawing_has_the_size_asked_for_and_shows_its_shape(
    shape: str, size: tuple[int, int]
) -> None:
    picture = draw(Random(SEED), "red", shape, size)
    assert picture.mode == "RGB"
    assert picture.size == size
    red = sum(
        count for count, (r, g, b) in picture.getcolors(2**24) or [] if r > 150 > 90 > max(g, b)
    )
    assert 0.02 < red / (size[0] * size[1]) < 0.8
