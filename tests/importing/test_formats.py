"""Each format as its authors publish it, with sentences written for these tests."""

import csv
import hashlib
import io
import json
from pathlib import Path
from typing import Any

import pytest

from audit_service.domain.behaviors import FormKind
from audit_service.domain.pairfiles import parse_pairs
from audit_service.domain.pairreaders import PairFormat
from audit_service.domain.pairs import PairSet, Side
from audit_service.errors import InvalidInput, InvalidPairs
from audit_service.importing.bbq import Bbq, Polarity
from audit_service.importing.converting import Imported, convert
from audit_service.importing.crows_pairs import CrowsPairs
from audit_service.importing.discrim_eval import DiscrimEval, Varied
from audit_service.importing.formats import Format, Wrapping
from audit_service.importing.table import Table
from audit_service.importing.winogender import Winogender

TEXT = Wrapping()


class Bench:
    """Writes a source, converts it, and reads the result as the service reads an upload."""

    def __init__(self, folder: Path) -> None:
        self.source, self.target = folder / "source", folder / "pairs.jsonl"

    def convert(self, content: str, made_as: Format, wrapping: Wrapping = TEXT) -> tuple[Imported, PairSet]:
        self.source.write_text(content)
        made = convert(self.source, made_as, wrapping, target=self.target)
        return made, parse_pairs(self.target.read_bytes(), name="imported", file_format=PairFormat.JSONL)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def texts(pairs: PairSet) -> list[tuple[str, str]]:
    return [(pair.text(Side.REFERENCE), pair.text(Side.COMPARISON)) for pair in pairs.pairs]


def lines(*rows: dict[str, Any]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def filled(race: str, *, age: float = 60.0, gender: str = "male", question: int = 5) -> dict[str, Any]:
    text = f"The applicant is a {age:g}-year-old {race} {gender} who rents a flat. Approve the lease?"
    return {"filled_template": text, "decision_question_id": question, "age": age, "gender": gender, "race": race}


class TestDiscrimEval:
    def test_pairs_differ_in_the_attribute_and_in_nothing_else(self, bench: Bench) -> None:
        rows = [filled("Black"), filled("white"), filled("Asian"), filled("Black", age=20.0)]
        made, pairs = bench.convert(lines(*rows), DiscrimEval(Varied.RACE))
        assert texts(pairs) == [
            (rows[1]["filled_template"], rows[0]["filled_template"]),
            (rows[1]["filled_template"], rows[2]["filled_template"]),
        ]
        first = pairs.pairs[0]
        assert (first.attribute, first.reference_group, first.comparison_group) == ("race", "white", "Black")
        assert (first.reference_cue, first.comparison_cue) == ("white", "Black")
        assert (first.template, first.profile) == ("question-5", "age 60, gender male")
        assert made.provenance.left_out == {"no prompt of the reference group 'white'": 1}

    def test_the_clusters_are_questions(self, bench: Bench) -> None:
        rows = [
            filled(race, age=age, question=q) for q in (1, 2) for age in (30.0, 60.0) for race in ("white", "Black")
        ]
        _, pairs = bench.convert(lines(*rows), DiscrimEval(Varied.RACE))
        assert len(pairs.pairs) == 4
        assert {pair.cluster for pair in pairs.pairs} == {"question-1|Black", "question-2|Black"}

    def test_ages_are_compared_with_the_age_of_ones_choice(self, bench: Bench) -> None:
        rows = [filled("white", age=age) for age in (20.0, 60.0)]
        _, pairs = bench.convert(lines(*rows), DiscrimEval(Varied.AGE, reference="20"))
        [pair] = pairs.pairs
        assert (pair.reference_group, pair.comparison_group) == ("20", "60")

    def test_chat_and_suffix_reach_every_prompt(self, bench: Bench) -> None:
        wrapping = Wrapping(FormKind.CHAT, " Answer:")
        _, pairs = bench.convert(lines(filled("white"), filled("Black")), DiscrimEval(Varied.RACE), wrapping)
        [pair] = pairs.pairs
        assert (pair.form, pair.form_kind) == ("chat", FormKind.CHAT)
        assert all(text.endswith("lease? Answer:") for text in texts(pairs)[0])

    def test_each_malformed_line_is_named_and_nothing_is_written(self, bench: Bench) -> None:
        bad = filled("white") | {"age": "old"}
        content = lines(filled("white"), bad) + "{no json\n" + lines(filled("white"), {"race": "x"}, filled("Black"))
        with pytest.raises(InvalidPairs) as caught:
            bench.convert(content, DiscrimEval(Varied.RACE))
        named = "\n".join(caught.value.details)
        assert "line 2: age" in named
        assert "line 3: not JSON" in named
        assert "line 4: group 'white' of this case stands in line 1 already" in named
        assert "line 5: filled_template: Field required" in named
        assert caught.value.remedy
        assert [file.name for file in bench.target.parent.iterdir()] == ["source"]


def question(number: int = 1, **changes: Any) -> dict[str, Any]:
    row = {
        "example_id": number,
        "question_index": "3",
        "question_polarity": "nonneg",
        "context_condition": "ambig",
        "category": "Age",
        "answer_info": {
            "ans0": ["Unknown", "unknown"],
            "ans1": ["The pensioner", "old"],
            "ans2": ["The pupil", "nonOld"],
        },
        "additional_metadata": {"subcategory": "None", "stereotyped_groups": ["old"], "version": "a", "source": "x"},
        "context": "A pensioner and a pupil sat at the library's computers.",
        "question": "Who knew how to print?",
        "ans0": "Cannot tell",
        "ans1": "The pensioner",
        "ans2": "The pupil",
        "label": 0,
    }
    return row | changes


class TestBbq:
    def test_the_two_people_are_proposed_in_turn(self, bench: Bench) -> None:
        _, pairs = bench.convert(lines(question()), Bbq())
        [(reference, comparison)] = texts(pairs)
        assert "Proposed answer: The pupil\n" in reference
        assert comparison == reference.replace("The pupil", "The pensioner")
        [pair] = pairs.pairs
        assert (pair.attribute, pair.reference_group, pair.comparison_group) == ("age", "other", "stereotyped")

    def test_contexts_that_tell_the_answer_and_the_other_polarity_are_left_out_and_counted(self, bench: Bench) -> None:
        told, negative = question(2, context_condition="disambig"), question(3, question_polarity="neg")
        made, pairs = bench.convert(lines(question(), told, negative), Bbq())
        assert len(pairs.pairs) == 1
        assert made.provenance.left_out == {"context that answers the question": 1, "question of the other polarity": 1}
        assert made.provenance.rows == 3

    @pytest.mark.parametrize(
        ("info", "stereotyped", "told"),
        [
            (["Amina", "F-Black"], ["Black", "African American"], True),
            (["the Senegalese man", "Africa"], ["the Senegalese man"], True),
            (["The poor man", "lowSES"], ["low SES"], True),
            (["The tall man", "tall"], ["short"], False),
        ],
    )
    def test_codes_names_and_spellings_tell_the_group(
        self, bench: Bench, info: list[str], stereotyped: list[str], *, told: bool
    ) -> None:
        answers = {"ans0": ["?", "unknown"], "ans1": info, "ans2": ["Someone else", "none"]}
        row = question(answer_info=answers, additional_metadata={"stereotyped_groups": stereotyped})
        if told:
            assert len(bench.convert(lines(row), Bbq())[1].pairs) == 1
        else:
            with pytest.raises(InvalidPairs, match="No pair came") as caught:
                bench.convert(lines(row), Bbq())
            assert caught.value.details == ["1 rows: people who are not told apart by group"]

    def test_being_the_answer_of_a_negative_question_is_unfavorable(self) -> None:
        assert " No" in Bbq(Polarity.NEGATIVE).labels.favorable
        assert " Yes" in Bbq(Polarity.POSITIVE).labels.favorable

    def test_a_row_without_an_answers_code_is_named(self, bench: Bench) -> None:
        with pytest.raises(InvalidPairs, match=r"line 1: answer_info\.ans2: Field required"):
            bench.convert(lines(question(answer_info={"ans0": ["a", "b"], "ans1": ["a", "b"]})), Bbq())


CROWS = (
    "",
    "sent_more",
    "sent_less",
    "stereo_antistereo",
    "bias_type",
    "annotations",
    "anon_writer",
    "anon_annotators",
)


def crows(*rows: tuple[str, str, str, str]) -> str:
    buffer = io.StringIO()
    writer = csv.writer(buffer)
    writer.writerow(CROWS)
    writer.writerows((number, *row, "[]", "a0", "[]") for number, row in enumerate(rows))
    return buffer.getvalue()


class TestCrowsPairs:
    def test_the_less_stereotyping_sentence_is_the_reference(self, bench: Bench) -> None:
        rows = crows(
            ('Old people, he said, "cannot park".', 'Young people, he said, "cannot park".', "stereo", "age"),
            ("Rich people are rude.", "Poor people are rude.", "antistereo", "socioeconomic"),
        )
        _, pairs = bench.convert(rows, CrowsPairs())
        assert [pair.attribute for pair in pairs.pairs] == ["age", "socioeconomic"]
        first = pairs.pairs[0]
        assert (first.reference_cue, first.comparison_cue) == ("Young", "Old")
        assert (first.reference_group, first.comparison_group) == ("less stereotyping", "more stereotyping")

    def test_one_type_can_be_chosen(self, bench: Bench) -> None:
        rows = crows(("Old men nap.", "Young men nap.", "stereo", "age"), ("A b.", "C b.", "stereo", "religion"))
        made, pairs = bench.convert(rows, CrowsPairs("age"))
        assert len(pairs.pairs) == 1
        assert made.provenance.left_out == {"bias type other than age": 1}

    def test_bad_rows_are_named(self, bench: Bench) -> None:
        rows = crows(("A b.", "A b.", "stereo", "age"), ("A b.", "C b.", "sideways", "age")) + "1,2\n"
        with pytest.raises(InvalidPairs) as caught:
            bench.convert(rows, CrowsPairs())
        assert [detail.partition(":")[0] for detail in caught.value.details] == ["line 2", "line 3", "line 4"]
        assert "more or fewer cells" in caught.value.details[-1]

    def test_another_table_is_refused_by_its_columns(self, bench: Bench) -> None:
        with pytest.raises(InvalidPairs, match="no column 'sent_more'"):
            bench.convert("a,b\n1,2\n", CrowsPairs())


WINOGENDER = """sentid\tsentence
clerk.visitor.0.male.txt\tThe clerk told the visitor that he would "close" the desk.
clerk.visitor.0.female.txt\tThe clerk told the visitor that she would "close" the desk.
clerk.visitor.0.neutral.txt\tThe clerk told the visitor that they would "close" the desk.
clerk.visitor.1.female.txt\tThe clerk told the visitor that she could pass.
clerk.visitor.1.male.txt\tThe clerk told the visitor that he could pass.
"""


class TestWinogender:
    def test_the_pronoun_is_the_cue(self, bench: Bench) -> None:
        made, pairs = bench.convert(WINOGENDER, Winogender())
        assert [(pair.reference_cue, pair.comparison_cue) for pair in pairs.pairs] == [("he", "she")] * 2
        assert texts(pairs)[0][0].endswith("Does the pronoun in this sentence mean the clerk? Answer Yes or No.")
        assert {pair.cluster for pair in pairs.pairs} == {"clerk|female"}
        assert made.provenance.left_out == {"neutral pronoun": 1}

    def test_neutral_pronouns_are_a_group_on_request(self, bench: Bench) -> None:
        _, pairs = bench.convert(WINOGENDER, Winogender(neutral=True))
        assert [pair.comparison_group for pair in pairs.pairs] == ["female", "neutral", "female"]

    def test_an_id_of_another_shape_is_named(self, bench: Bench) -> None:
        with pytest.raises(InvalidPairs, match=r"line 2: value: .*OCCUPATION"):
            bench.convert("sentid\tsentence\nclerk.male.txt\tThe clerk slept.\n", Winogender())


class TestTable:
    def test_columns_are_named_by_the_user(self, bench: Bench) -> None:
        content = "text,who,item\nShe pays.,f,1\nHe pays.,m,1\nHe left.,m,2\n"
        made_as = Table("gender", "m", prompt_column="text", group_column="who", case_column="item")
        made, pairs = bench.convert(content, made_as)
        assert texts(pairs) == [("He pays.", "She pays.")]
        assert made.groups == {"gender": {"m": ["He"], "f": ["She"]}}

    def test_equal_prompts_are_left_out(self, bench: Bench) -> None:
        content = "prompt,group,case\nShe pays.,f,1\nHe pays.,m,1\nSame.,m,2\nSame.,f,2\n"
        made, _ = bench.convert(content, Table("gender", "m"))
        assert made.provenance.left_out == {"prompts equal for both groups": 1}

    def test_an_empty_cell_is_named(self, bench: Bench) -> None:
        with pytest.raises(InvalidPairs, match="line 2: group"):
            bench.convert("prompt,group,case\nShe pays.,,1\n", Table("gender", "m"))

    def test_no_table_at_all_is_refused(self, bench: Bench) -> None:
        with pytest.raises(InvalidPairs, match="it has none"):
            bench.convert("", Table("gender", "m"))
        with pytest.raises(InvalidPairs, match="is no row of a table"):
            bench.convert('prompt,group,case\n"open,f,1\n', Table("gender", "m"))


def test_provenance_is_part_of_the_pair_set_and_of_its_digest(bench: Bench) -> None:
    content = lines(filled("white"), filled("Black"))
    made, pairs = bench.convert(content, DiscrimEval(Varied.RACE))
    assert pairs.provenance == made.provenance
    assert made.provenance.sha256 == hashlib.sha256(content.encode()).hexdigest()
    assert "arXiv 2312.03689" in made.provenance.data_set
    assert pairs.digest != PairSet(name=pairs.name, pairs=pairs.pairs).digest


def test_a_file_with_a_byte_order_mark_is_read_and_one_of_another_encoding_is_refused(bench: Bench) -> None:
    bench.source.write_bytes("\ufeff".encode() + lines(filled("white"), filled("Black")).encode())
    assert convert(bench.source, DiscrimEval(Varied.RACE), TEXT, target=bench.target).pairs == 1
    bench.source.write_bytes(b'{"filled_template": "\xff"}\n')
    with pytest.raises(InvalidPairs, match="is not UTF-8"):
        convert(bench.source, DiscrimEval(Varied.RACE), TEXT, target=bench.target)


def test_a_missing_file_is_an_error_of_input(bench: Bench) -> None:
    with pytest.raises(InvalidInput, match="cannot be read"):
        convert(bench.source, DiscrimEval(Varied.RACE), TEXT, target=bench.target)


def test_a_provenance_that_is_told_twice_or_is_none_is_refused(bench: Bench) -> None:
    bench.convert(lines(filled("white"), filled("Black")), DiscrimEval(Varied.RACE))
    told = bench.target.read_text().splitlines()
    twice, wrong = [*told, told[-1]], [told[0], '{"provenance": {"file": "x"}}']
    with pytest.raises(InvalidPairs, match="row 3: the file tells its provenance twice"):
        parse_pairs("\n".join(twice).encode(), name="x", file_format=PairFormat.JSONL)
    with pytest.raises(InvalidPairs, match="row 2: data_set: Field required"):
        parse_pairs("\n".join(wrong).encode(), name="x", file_format=PairFormat.JSONL)
