"""What was audited and by which rules: scope, model, behavior, criteria, prompt pairs."""

from collections import Counter
from collections.abc import Iterator, Sequence

from audit_service.domain.comparison import EarlierRun
from audit_service.domain.pairs import Pair, PairKind, Side
from audit_service.domain.power import family
from audit_service.domain.results import Outcome
from workers.rendering import numbers
from workers.rendering.blocks import (
    Block,
    Bullets,
    Callout,
    Cell,
    Column,
    Paragraph,
    PromptText,
    Section,
)
from workers.rendering.context import Context, code, count, criterion, fact_list, heading, note, table, text_cell
from workers.rendering.sections.front import must_say
from workers.rendering.sections.words import words


def scope(context: Context) -> Section:
    t, plan = context.t, context.evidence.plan
    inside = fact_list(
        t("scope.inside"),
        (
            (t("scope.model"), text_cell(f"{plan.model.name} {plan.model.version}")),
            (t("scope.decision"), text_cell(plan.behavior.decision)),
            (
                t("scope.attributes"),
                text_cell(t.join(f"{a.name} ({a.signalled_by})" for a in plan.behavior.attributes)),
            ),
            (t("scope.forms"), text_cell(t.join(form.name for form in plan.behavior.forms))),
            (
                t("scope.pairs"),
                text_cell(t("scope.pairs.value", pairs=f"{plan.pair_set.pairs:,}", name=plan.pair_set.name)),
            ),
            (t("scope.sites"), text_cell(t("scope.sites.value", sites=f"{len(plan.sites):,}"))),
            (t("scope.distribution"), text_cell(plan.behavior.deployment_note or t("scope.distribution.none"))),
        ),
    )
    outside = tuple(t(f"scope.outside.{name}") for name in ("groups", "system", "outcomes", "training", "law", "time"))
    reliance = tuple(t(f"scope.reliance.{name}") for name in ("owner", "files", "software"))
    statements = tuple(must_say(t.language)[1:])
    return Section(
        id="scope",
        number="1",
        title=t("scope.title"),
        blocks=(
            inside,
            heading(t("scope.outside"), "scope-outside"),
            Bullets(items=outside),
            heading(t("scope.reliance"), "scope-reliance"),
            Bullets(items=reliance),
            heading(t("scope.statements"), "scope-statements"),
            Bullets(items=statements),
        ),
    )


def model(context: Context) -> Section:
    t, identity = context.t, context.evidence.plan.model
    verified = t("model.verified") if context.evidence.model_verified else t("model.not_verified")
    facts = fact_list(
        t("model.caption"),
        (
            (t("model.name"), text_cell(identity.name)),
            (t("model.version"), text_cell(identity.version)),
            (t("model.architecture"), code(identity.architecture)),
            (t("model.size"), text_cell(t("model.size.value", layers=str(identity.layers), heads=str(identity.heads)))),
            (t("model.parameters"), text_cell(f"{identity.parameters:,}")),
            (t("model.dtype"), code(identity.dtype)),
            (t("model.digest"), code(identity.digest)),
            (t("model.chat_template"), code(identity.chat_template_digest or t("model.no_chat_template"))),
            (t("model.check"), text_cell(verified)),
        ),
    )
    files = table(
        t("model.files"),
        (Column(label=t("model.file"), style="code", width="32%"), Column(label="SHA-256", style="code")),
        [(code(name), code(digest)) for name, digest in sorted(identity.files.items())],
        note=t("model.files.note"),
    )
    blocks = (facts, files, *_currency(context))
    return Section(id="model", number="2", title=t("model.title"), blocks=blocks)


def _currency(context: Context) -> Iterator[Block]:
    """Whether the audited model is the one in use, and until when the audit holds."""
    t, evidence = context.t, context.evidence
    known = evidence.currency
    yield heading(t("currency.title"), "model-currency")
    due, later = known.due, known.superseded
    overdue = due is not None and due <= evidence.issued_at
    rows = [
        (t("currency.due"), text_cell(t("currency.unknown") if due is None else numbers.moment(due))),
        (t("currency.superseded"), text_cell(_later(context, later) if later else t("currency.not_superseded"))),
    ]
    yield fact_list(t("currency.caption"), rows)
    if overdue:
        yield Callout(title=t("currency.overdue"), text=t("currency.overdue.text"), tone="concern")
    yield _deployments(context) if known.deployments else note(t("currency.no_deployments"))


def _later(context: Context, later: EarlierRun) -> str:
    model = f"{later.model.name} {later.model.version}"
    said = context.t("currency.later", document=later.document_id, model=model, day=numbers.day(later.ended_at))
    return f"{said} {context.verdict(later.verdict)}"


def _deployments(context: Context) -> Block:
    """Where the model is in use: other versions than the audited one first."""
    t, audited = context.t, context.evidence.plan.model.digest
    widths = {"place": "30%", "version": "16%", "digest": "22%", "since": "14%", "audited": None}
    columns = [Column(label=t(f"deployment.{name}"), width=width) for name, width in widths.items()]
    rows = [
        (
            text_cell(one.place),
            text_cell(one.version),
            code(numbers.short(one.digest)),
            text_cell(numbers.day(one.since)),
            Cell(
                text=t("deployment.yes" if one.digest == audited else "deployment.no"),
                style="status",
                tone="pass" if one.digest == audited else "concern",
            ),
        )
        for one in sorted(context.evidence.currency.deployments, key=lambda one: (one.digest == audited, one.place))
    ]
    return table(t("deployment.caption"), columns, rows, note=t("deployment.note"))


def behavior(context: Context) -> Section:
    t, registered = context.t, context.evidence.plan.behavior
    rows: list[tuple[str, Cell]] = [
        (t("behavior.id"), code(registered.name)),
        (t("behavior.name"), text_cell(registered.title)),
        (t("behavior.decision"), text_cell(registered.decision)),
        (t("behavior.owner"), text_cell(registered.owner)),
        (t("behavior.risk"), text_cell(registered.risk.rating)),
        (t("behavior.basis"), text_cell(registered.risk.basis)),
        (t("behavior.favorable"), code(_spellings(registered.labels.favorable))),
        (t("behavior.unfavorable"), code(_spellings(registered.labels.unfavorable))),
    ]
    attributes = table(
        t("behavior.attributes"),
        tuple(
            Column(label=t(f"behavior.attribute.{name}"), width=None if name == "source" else "13%")
            for name in ("name", "signal", "reference", "groups", "source")
        ),
        [
            tuple(text_cell(x) for x in (a.name, a.signalled_by, a.reference, t.join(_groups(a.groups)), a.source))
            for a in registered.attributes
        ],
    )
    forms = table(
        t("behavior.forms"),
        tuple(Column(label=t(f"behavior.form.{name}")) for name in ("name", "kind", "suffix")),
        [
            (text_cell(form.name), text_cell(t(f"behavior.form.kind.{form.kind}")), code(repr(form.suffix)[1:-1]))
            for form in registered.forms
        ],
    )
    facts = fact_list(t("behavior.caption"), tuple(rows))
    return Section(id="behavior", number="3", title=t("behavior.title"), blocks=(facts, attributes, forms))


def _spellings(labels: Sequence[str]) -> str:
    """Labels in quotes, so that a leading space can be seen."""
    return "  ".join(f"“{label}”" for label in labels)


def _groups(groups: dict[str, dict[str, tuple[str, ...]]]) -> list[str]:
    """Groups with their numbers of cues. Sorted: a mapping's order is lost on its way through the database."""
    return [f"{group} ({sum(len(cues) for cues in strata.values())})" for group, strata in sorted(groups.items())]


def criteria(context: Context) -> Section:
    t, plan = context.t, context.evidence.plan
    behavior, judging, tracing = plan.behavior, plan.judging, plan.tracing
    source = behavior.threshold.source or t("criteria.no_source")
    rows: tuple[tuple[str, Cell], ...] = (
        (t("criteria.metric"), text_cell(t("criteria.metric.value"))),
        (t("criteria.threshold"), criterion(behavior.threshold.gap_nats, t("unit.nats"))),
        (t("criteria.source"), text_cell(source)),
        (t("criteria.delta"), text_cell(f"±{numbers.criterion(judging.delta_nats)} {t('unit.nats')}")),
        (t("criteria.alpha"), criterion(judging.alpha)),
        (t("criteria.family"), text_cell(_family(context))),
        (t("criteria.cut"), criterion(behavior.cut, t("unit.nats"))),
        (t("criteria.coverage"), text_cell(numbers.percent(behavior.min_coverage))),
        (t("criteria.resamples"), text_cell(f"{judging.resamples:,}")),
        (t("criteria.sites"), text_cell(t.join(t(f"site.{kind}") for kind in tracing.kinds))),
        (t("criteria.segments"), text_cell(t.join(tracing.segments))),
        (t("criteria.directions"), text_cell(t.join(t(f"direction.{name}") for name in tracing.directions))),
        (t("criteria.corruptions"), text_cell(t.join(t(f"corruption.{name}") for name in tracing.corruptions))),
        (t("criteria.mapping"), text_cell(t(f"criteria.mapping.{tracing.mapping}"))),
        (t("criteria.traced"), text_cell(_traced(context))),
        (t("criteria.robustness"), text_cell(_robustness(context))),
        (t("criteria.seeds"), text_cell(_seeds(context))),
        (t("criteria.digest"), code(plan.digest)),
        (t("criteria.frozen"), text_cell(numbers.moment(context.evidence.run.planned_at))),
    )
    title, text = ("criteria.exploratory", "criteria.exploratory.text") if plan.exploratory else _CONFIRMATORY
    status = Callout(title=t(title), text=t(text), tone="concern" if plan.exploratory else "plain")
    return Section(
        id="criteria",
        number="4",
        title=t("criteria.title"),
        blocks=(status, fact_list(t("criteria.caption"), rows), *_power(context)),
    )


def _power(context: Context) -> Iterator[Block]:
    """What the design could detect, in the words that the plan was given before the run."""
    if context.evidence.power:
        yield heading(context.t("criteria.power"), "criteria-power")
        yield Bullets(items=tuple(context.say(sentence) for sentence in context.evidence.power))


_CONFIRMATORY = ("criteria.confirmatory", "criteria.confirmatory.text")


def _traced(context: Context) -> str:
    tracing = context.evidence.plan.tracing
    return context.t(
        "criteria.traced.value", pairs=str(tracing.pairs_per_form), placebo=str(tracing.placebo_pairs_per_form)
    )


def _robustness(context: Context) -> str:
    t, plan = context.t, context.evidence.plan
    declared = plan.judging.robustness
    return t(
        "criteria.robustness.value",
        readings=t.join(context.metric(metric.name) for metric in plan.metrics),
        units=t.join(t(f"spec.unit.{unit}") for unit in declared.units),
        parts=str(declared.prompt_resamples),
        share=numbers.percent(declared.kept_share),
    )


def _family(context: Context) -> str:
    """Among how many comparisons alpha is shared."""
    evidence = context.evidence
    elsewhere = evidence.plan.judging.comparisons_elsewhere
    own = family(evidence.plan.judging, evidence.pair_set.pairs) - elsewhere
    return context.t("criteria.family.value", own=str(own), elsewhere=str(elsewhere))


def _seeds(context: Context) -> str:
    plan = context.evidence.plan
    return context.t(
        "criteria.seeds.value",
        pairing=str(plan.behavior.pairing.seed),
        tracing=str(plan.tracing.seed),
        judging=str(plan.judging.seed),
    )


def datasheet(context: Context) -> Section:
    t, pair_set = context.t, context.evidence.pair_set
    note_text = context.evidence.plan.behavior.deployment_note
    blocks: list[Block] = [
        fact_list(
            t("datasheet.caption"),
            (
                (t("datasheet.name"), text_cell(pair_set.name)),
                (t("datasheet.digest"), code(pair_set.digest)),
                (t("datasheet.pairs"), text_cell(f"{len(pair_set.pairs):,}")),
                *_origin(context),
                (t("datasheet.resemblance"), text_cell(note_text or t("datasheet.resemblance.none"))),
                (t("datasheet.exclusions"), text_cell(t("datasheet.exclusions.value"))),
            ),
        ),
        _counts(context),
    ]
    if context.evidence.cue_tokens:
        blocks.append(_cue_lengths(context))
    blocks.extend(words(context))
    blocks.append(heading(t("datasheet.examples"), "datasheet-examples"))
    blocks.append(Paragraph(text=t("datasheet.examples.text"), role="intro"))
    for form in context.evidence.plan.behavior.forms:
        blocks.extend(_example(context, form.name))
    return Section(id="datasheet", number="5", title=t("datasheet.title"), blocks=tuple(blocks))


def _origin(context: Context) -> Iterator[tuple[str, Cell]]:
    """How the pairs came about: from the behavior's templates, from a data set, or from somebody's upload."""
    t, pair_set = context.t, context.evidence.pair_set
    if told := pair_set.provenance:
        yield t("datasheet.construction"), text_cell(told.conversion)
        yield t("datasheet.source"), text_cell(told.data_set)
        yield t("datasheet.file"), text_cell(f"{told.file}, SHA-256 {told.sha256}")
        left_out = t.join(f"{why} ({count:,})" for why, count in sorted(told.left_out.items()))
        yield t("datasheet.rows"), text_cell(f"{told.rows:,}")
        yield t("datasheet.left_out"), text_cell(left_out or t("datasheet.left_out.none"))
        if told.limits:
            yield t("datasheet.limits"), text_cell(" ".join(told.limits))
    elif {pair.template for pair in pair_set.pairs} <= set(context.evidence.plan.behavior.templates):
        yield t("datasheet.construction"), text_cell(t("datasheet.construction.value"))
        yield t("datasheet.personal"), text_cell(t("datasheet.personal.value"))
        return
    else:
        yield t("datasheet.construction"), text_cell(t("datasheet.construction.uploaded"))
    yield t("datasheet.personal"), text_cell(t("datasheet.personal.unknown"))


def _counts(context: Context) -> Block:
    t = context.t
    pairs = context.evidence.pair_set.pairs
    grouped = Counter((p.form, p.kind, p.attribute, p.reference_group, p.comparison_group) for p in pairs)
    clusters: dict[tuple[str, PairKind, str, str, str], set[str]] = {}
    for p in pairs:
        clusters.setdefault((p.form, p.kind, p.attribute, p.reference_group, p.comparison_group), set()).add(p.cluster)
    columns = [Column(label=t(f"datasheet.column.{name}")) for name in ("form", "kind", "attribute", "groups")]
    columns += [Column(label=t(f"datasheet.column.{name}"), style="number") for name in ("pairs", "clusters")]
    rows = [
        (
            text_cell(form),
            text_cell(t(f"datasheet.kind.{kind}")),
            text_cell(attribute),
            text_cell(f"{comparison} / {reference}" if kind is PairKind.CONTRAST else reference),
            count(number),
            count(len(clusters[form, kind, attribute, reference, comparison])),
        )
        for (form, kind, attribute, reference, comparison), number in sorted(grouped.items())
    ]
    return table(t("datasheet.counts"), columns, rows, note=t("datasheet.counts.note"))


def _cue_lengths(context: Context) -> Block:
    """How many cues of each group have how many tokens: unequal spans are the rule, not the exception."""
    t, tokens = context.t, context.evidence.cue_tokens
    lengths = sorted(set(tokens.values()))
    columns = [Column(label=t("datasheet.cues.group"), width="34%")]
    columns += [Column(label=t("datasheet.cues.tokens", number=str(length)), style="number") for length in lengths]
    rows = [
        (text_cell(f"{attribute.name}: {group}, {stratum}"), *(count(have[length]) for length in lengths))
        for attribute in context.evidence.plan.behavior.attributes
        for group, strata in sorted(attribute.groups.items())
        for stratum, cues in sorted(strata.items())
        if (have := Counter(tokens[cue] for cue in cues if cue in tokens)) is not None
    ]
    return table(t("datasheet.cues"), columns, rows, note=t("datasheet.cues.note"))


def _example(context: Context, form: str) -> list[Block]:
    """The first contrast pair of a form, both sides."""
    pair = next((p for p in context.evidence.pair_set.pairs if p.form == form and p.kind is PairKind.CONTRAST), None)
    if pair is None:
        return [note(context.t("datasheet.no_contrast", form=form))]
    return [_prompt(context, pair, side) for side in Side]


def _prompt(context: Context, pair: Pair, side: Side) -> PromptText:
    group = pair.reference_group if side is Side.REFERENCE else pair.comparison_group
    return PromptText(
        title=context.t("datasheet.example", form=pair.form, pair=pair.id, side=context.t(f"side.{side}"), group=group),
        pieces=tuple((segment.text(side), segment.is_cue) for segment in pair.segments),
    )


def not_measured(context: Context) -> Block | None:
    """Values that the method could not give, with the reason, so that no gap in a table is silent."""
    t = context.t
    rows = [
        (code(result.key), context.book.number(result.key), text_cell(context.say(result.reason)))
        for result in context.evidence.judgement.results
        if result.outcome is not Outcome.MEASURED and result.key in context.book.printed and result.reason
    ]
    if not rows:
        return None
    columns = [
        Column(label=t(f"absent.{name}"), width=width)
        for name, width in (("key", "36%"), ("outcome", "22%"), ("reason", None))
    ]
    return table(t("absent.caption"), columns, rows)
