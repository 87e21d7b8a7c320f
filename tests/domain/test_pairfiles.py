import io
import json
from collections.abc import Iterable

import pytest

from audit_service.domain.manifest import canonical_json
from audit_service.domain.pairfiles import parse_pairs, read_pairs
from audit_service.domain.pairreaders import LARGEST_JSON, LONGEST_LINE, PairFormat
from audit_service.domain.pairs import Pair, PairKind, PairSet, SetDigest, Side
from audit_service.domain.provenance import Provenance
from audit_service.errors import InvalidPairs

HEADER = "attribute,reference_group,comparison_group,reference_prompt,comparison_prompt\n"

CSV = PairFormat.CSV
PROVENANCE = {
    "data_set": "x",
    "file": "x.csv",
    "sha256": "0" * 64,
    "rows": 2,
    "left_out": {},
    "conversion": "x",
    "limits": [],
    "converter": "x",
}


def as_lines(pairs: Iterable[Pair]) -> io.BytesIO:
    return io.BytesIO("".join(pair.model_dump_json() + "\n" for pair in pairs).encode())


def parse(text: str | bytes, file_format: PairFormat = PairFormat.CSV) -> PairSet:
    content = text.encode() if isinstance(text, str) else text
    return parse_pairs(content, name="uploaded", file_format=file_format)


def only(pair_set: PairSet) -> Pair:
    [pair] = pair_set.pairs
    return pair


class TestCsv:
    def test_segments_are_found_from_the_texts(self) -> None:
        pair = only(parse(HEADER + "race,white,black,Name: Emily. Approve?,Name: Emma. Approve?\n"))
        assert [segment.reference for segment in pair.segments] == ["Name: ", "Emily", ". Approve?"]
        assert pair.comparison_cue == "Emma"
        assert pair.text(Side.COMPARISON) == "Name: Emma. Approve?"

    def test_a_shared_word_end_stays_with_the_cue(self) -> None:
        pair = only(parse(HEADER + "race,white,black,Anne asks.,Joanne asks.\n"))
        assert (pair.reference_cue, pair.comparison_cue) == ("Anne", "Joanne")

    def test_an_added_word_is_a_cue_against_nothing(self) -> None:
        pair = only(parse(HEADER + "race,white,black,The applicant asks,The Black applicant asks\n"))
        assert (pair.reference_cue, pair.comparison_cue) == ("", "Black")

    def test_chinese_text_is_cut_between_signs(self) -> None:
        pair = only(parse(HEADER + "sex,m,f,王先生申請貸款,王小姐申請貸款\n"))
        assert (pair.reference_cue, pair.comparison_cue) == ("先生", "小姐")

    def test_equal_groups_make_a_placebo_pair(self) -> None:
        assert only(parse(HEADER + "race,white,white,I am Emily,I am Anne\n")).kind is PairKind.PLACEBO

    def test_rows_are_numbered_as_an_editor_shows_them(self) -> None:
        with pytest.raises(InvalidPairs) as caught:
            parse(HEADER + "race,white,black,a b,a c\nrace,white,,a b,a c\nrace,white,black,a b,a b\n")
        assert [detail.split(":")[0] for detail in caught.value.details] == ["row 3", "row 4"]

    def test_a_surplus_cell_is_named(self) -> None:
        with pytest.raises(InvalidPairs) as caught:
            parse(HEADER + "race,white,black,a b,a c,d\n")
        assert caught.value.details == ["row 2: more cells than columns"]

    def test_unknown_columns_are_refused(self) -> None:
        with pytest.raises(InvalidPairs, match="colour"):
            parse("attribute,colour\nrace,blue\n")

    @pytest.mark.parametrize("text", ["", HEADER, "\ufeff" + HEADER])
    def test_an_empty_file_is_refused(self, text: str) -> None:
        with pytest.raises(InvalidPairs, match="no pairs"):
            parse(text)

    def test_text_that_is_not_utf8_is_named_with_its_line(self) -> None:
        with pytest.raises(InvalidPairs, match="line 2"):
            parse(HEADER.encode() + b"race,\xff")

    @pytest.mark.parametrize("header", ['"attribute', '"a"b,c', "a" * 200_000])
    def test_a_broken_header_is_named(self, header: str) -> None:
        with pytest.raises(InvalidPairs, match="Line 1 is not CSV"):
            parse(header)

    def test_an_open_quote_is_named(self) -> None:
        with pytest.raises(InvalidPairs, match="not CSV"):
            parse(HEADER + 'race,white,black,"a b,a c\n')

    def test_of_many_bad_rows_the_first_are_named_and_the_rest_counted(self) -> None:
        with pytest.raises(InvalidPairs) as caught:
            parse(HEADER + "race,white,black,a,a\n" * 30)
        assert len(caught.value.details) == 21
        assert caught.value.details[-1] == "and 10 more"

    def test_repeated_ids_are_named(self) -> None:
        with pytest.raises(InvalidPairs) as caught:
            parse("id," + HEADER + "x,race,w,b,a b,a c\nx,race,w,b,a b,a d\n")
        assert [detail.split(":")[0] for detail in caught.value.details] == ["row 2", "row 3"]

    def test_lines_that_end_as_on_an_old_macintosh_are_lines(self) -> None:
        text = HEADER + "race,w,b,a b,a c\nrace,w,b,a d,a e\n"
        assert parse(text.replace("\n", "\r")).digest == parse(text).digest

    def test_a_line_without_an_end_is_refused(self) -> None:
        with pytest.raises(InvalidPairs, match="Line 2 has more than"):
            parse(HEADER + "a" * LONGEST_LINE)


class TestReading:
    """Row by row, as a large file is read."""

    def test_pairs_come_as_they_are_read_and_the_digest_grows_with_them(self) -> None:
        whole = parse(HEADER + "race,w,b,a b,a c\nrace,w,b,a d,a e\n")
        for provenance in (None, Provenance.model_validate_json(json.dumps(PROVENANCE))):
            growing = SetDigest(whole.name)
            for pair in read_pairs(as_lines(whole.pairs), file_format=PairFormat.JSONL):
                growing.add(canonical_json(pair))
            expected = PairSet(name=whole.name, pairs=whole.pairs, provenance=provenance).digest
            assert (growing.finish(provenance), growing.count) == (expected, 2)

    def test_the_first_pair_is_there_before_the_second_line_is_read(self) -> None:
        file = as_lines(parse(HEADER + "race,w,b,a b,a c\nrace,w,b,a d,a e\n").pairs)
        first_line = len(file.getvalue().partition(b"\n")[0]) + 1
        next(read_pairs(file, file_format=PairFormat.JSONL))
        assert file.tell() == first_line

    def test_after_a_bad_row_no_more_pairs_come(self) -> None:
        pairs = read_pairs(io.BytesIO(f"{HEADER}race,w,b,a b,a c\nrace\nrace,w,b,a d,a e\n".encode()), file_format=CSV)
        assert isinstance(next(pairs), Pair)
        with pytest.raises(InvalidPairs, match="problems in the pair file"):
            next(pairs)


class TestJson:
    def test_a_list_that_is_too_large_to_be_read_at_once_is_refused(self) -> None:
        with pytest.raises(InvalidPairs, match="JSON list") as caught:
            parse("[" + " " * LARGEST_JSON + "]", PairFormat.JSON)
        assert "JSON Lines" in caught.value.remedy

    def test_whole_pairs_come_back_as_they_went(self) -> None:
        pair_set = parse(HEADER + "race,white,black,I am Emily,I am Aisha\n")
        text = pair_set.model_dump_json()
        assert parse(text, PairFormat.JSON).digest == pair_set.digest
        lines = "\n".join(pair.model_dump_json() for pair in pair_set.pairs)
        assert parse(lines, PairFormat.JSONL).digest == pair_set.digest

    def test_every_bad_line_is_named(self) -> None:
        with pytest.raises(InvalidPairs) as caught:
            parse("{bad\n{worse\n" + "1" * 5000, PairFormat.JSONL)
        said = zip(caught.value.details, (1, 2, 3), strict=True)
        assert all(detail.startswith(f"row {number}: The line is not JSON") for detail, number in said)

    def test_a_line_separator_inside_a_text_breaks_no_line(self) -> None:
        row = {"attribute": "race", "reference_group": "w", "comparison_group": "b"}
        prompts = {"reference_prompt": "a\u2028 Emily", "comparison_prompt": "a\u2028 Aisha"}
        assert only(parse(json.dumps(row | prompts, ensure_ascii=False), PairFormat.JSONL)).comparison_cue == "Aisha"

    def test_a_row_that_is_no_object_is_named(self) -> None:
        with pytest.raises(InvalidPairs) as caught:
            parse(json.dumps([3]), PairFormat.JSON)
        assert caught.value.details == ["row 1: not an object with fields"]

    @pytest.mark.parametrize("text", ['"text"', "{}", '{"pairs": 3}'])
    def test_a_file_without_a_list_is_refused(self, text: str) -> None:
        with pytest.raises(InvalidPairs, match="no list"):
            parse(text, PairFormat.JSON)

    def test_deep_nesting_is_refused_not_crashed_on(self) -> None:
        with pytest.raises(InvalidPairs):
            parse("[" * 100_000, PairFormat.JSON)
