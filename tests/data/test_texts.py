import gzip
import json
from pathlib import Path

import datasets
import pytest

from lit_prompt.data.texts import TextSource
from lit_prompt.errors import InputError

DOCUMENTS = ["The first.\n\nIts second paragraph.", "  Another.  "]
PARAGRAPHS = ["The first.", "Its second paragraph.", "Another."]


def _jsonl(path: Path) -> Path:
    path.write_text("".join(json.dumps({"text": text, "book": i}) + "\n" for i, text in enumerate(DOCUMENTS)))
    return path


def _saved(path: Path) -> Path:
    datasets.Dataset.from_dict({"text": DOCUMENTS}).save_to_disk(str(path))
    return path


def _compressed(path: Path) -> Path:
    path = path.with_name(path.name + ".gz")
    path.write_bytes(gzip.compress(_jsonl(path.with_suffix("")).read_bytes()))
    return path


def _parquet(path: Path) -> Path:
    datasets.Dataset.from_dict({"text": DOCUMENTS}).to_parquet(str(path))
    return path


@pytest.mark.parametrize(
    ("make", "name"), [(_jsonl, "a.jsonl"), (_compressed, "a.jsonl"), (_parquet, "a.parquet"), (_saved, "folder")]
)
def test_every_kind_of_source_gives_the_same_texts(make, name, tmp_path):
    path = str(make(tmp_path / name))
    assert list(TextSource(path).texts()) == PARAGRAPHS
    assert list(TextSource(path, unit="document").texts()) == ["The first.\n\nIts second paragraph.", "Another."]


def test_a_text_file_is_one_document(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("One line\nand the next.\n\n\nA paragraph.\n")
    assert list(TextSource(str(path)).texts()) == ["One line\nand the next.", "A paragraph."]
    assert list(TextSource(str(path), unit="document").texts()) == [path.read_text().strip()]


@pytest.mark.parametrize("name", ["a.txt", "a.jsonl", "a.csv"])
def test_a_byte_order_mark_is_no_text(name, tmp_path):
    contents = {"a.txt": "Once.", "a.jsonl": '{"text": "Once."}\n', "a.csv": "text\nOnce.\n"}[name]
    (tmp_path / name).write_text(contents, encoding="utf-8-sig")
    assert list(TextSource(str(tmp_path / name)).texts()) == ["Once."]


def test_a_byte_order_mark_between_texts_that_were_joined_is_none(tmp_path):
    (tmp_path / "a.txt").write_text("\ufeffOnce.\n\n\ufeffTwice.\n", encoding="utf-8")
    assert list(TextSource(str(tmp_path / "a.txt")).texts()) == ["Once.", "Twice."]


@pytest.mark.parametrize("name", ["a.txt", "a.jsonl", "a.csv"])
def test_utf_16_is_refused_in_one_line(name, tmp_path):
    (tmp_path / name).write_text("text\nOnce.\n", encoding="utf-16")
    with pytest.raises(InputError, match="is UTF-16, not UTF-8 text; save it as UTF-8"):
        list(TextSource(str(tmp_path / name)).texts())


def test_rows_without_a_text_are_left_out(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "One."}\n{"text": null}\n{"text": "Two."}\n')
    assert list(TextSource(str(path)).texts()) == ["One.", "Two."]
    datasets.Dataset.from_dict({"text": [None, "One.", None]}).save_to_disk(str(tmp_path / "folder"))
    assert list(TextSource(str(tmp_path / "folder")).texts()) == ["One."]


def test_every_word_of_csv_is_a_word(tmp_path):
    words = ["null", "NA", "None", "nan", "n/a", "yes"]
    (tmp_path / "a.csv").write_text("book,text\n" + "".join(f"1,{word}\n" for word in words) + "2,\n")
    assert list(TextSource(str(tmp_path / "a.csv")).texts()) == words


def test_another_column(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("body\nhello\n")
    assert list(TextSource(str(path), column="body").texts()) == ["hello"]
    with pytest.raises(InputError, match=r"a\.csv: row 1 has no text in column 'text'; it has \['body'\]"):
        list(TextSource(str(path)).texts())


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("missing.txt", None, "no such file"),
        ("a.docx", b"x", r"must end in \.txt"),
        ("a.jsonl", b'{"text": "x"\n{{{', "cannot be read as text"),
        ("a.txt", b"\n\n \n", "holds no text"),
        ("a.txt", b"", "is empty"),
        ("a.jsonl", b"", "is empty"),
        ("a.jsonl.gz", gzip.compress(b"", mtime=0), "is empty"),  # the same name in every process
        ("a.parquet", b"no parquet", "cannot be read as text"),
    ],
)
def test_what_cannot_be_read_is_named(name, content, message, tmp_path):
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=message) as caught:
        list(TextSource(str(path)).texts())
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
