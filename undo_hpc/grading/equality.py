"""Equality of answers as one table: which rule compares which types. What stands in no row is different.

The rules are in `amounts`, `structures` and `statements`; each works in both orders of its pair.
"""

from __future__ import annotations

from undo_hpc.grading import sets, words
from undo_hpc.grading.amounts import about, expressions, number_expression, numbers, quantities, quantity_bare
from undo_hpc.grading.compare import RULES, Rule, equal, every, in_order
from undo_hpc.grading.statements import (
    equations,
    family_other,
    labelled,
    labelled_bare,
    labelled_relation,
    solution_sets,
    solutions_items,
    solutions_labelled,
    solutions_value,
)
from undo_hpc.grading.structures import (
    condition_set,
    conditions,
    lists,
    matrix_tuple,
    named_sets,
    one_item,
    piecewise,
    ratio_value,
    ratios,
    real_sets,
    reals_list,
    set_items,
    tuple_list,
    tuples,
)
from undo_hpc.grading.values import (
    About,
    Base,
    Cases,
    Condition,
    Expression,
    Family,
    Labelled,
    List,
    Matrix,
    Named,
    Number,
    Quantity,
    Ratio,
    Reals,
    Relation,
    Set,
    Solutions,
    Text,
    Tuple,
    Unread,
    Value,
)

__all__ = ["equal"]
_PAIRS: dict[tuple[type[Value], type[Value]], Rule] = {
    (Number, Number): numbers,
    (Number, Expression): number_expression,
    (Expression, Expression): expressions,
    (Quantity, Quantity): quantities,
    (Base, Base): lambda a, b: False,  # equal ones are the same value
    (Base, Number): lambda a, b: (
        a.digits.isdigit() and len(a.digits) < 60 and b.value == int(a.digits)
    ),  # the base is left out
    (Tuple, Tuple): tuples,
    (Tuple, List): tuple_list,
    (List, List): lists,
    (Set, Set): set_items,
    (Set, List): set_items,
    (Set, Tuple): one_item,
    (Reals, List): reals_list,
    (Condition, Condition): conditions,
    (Relation, Relation): equations,
    (Labelled, Labelled): labelled,
    (Labelled, Relation): labelled_relation,
    (Solutions, Solutions): solution_sets,
    (Solutions, Labelled): solutions_labelled,
    (Matrix, Matrix): lambda a, b: (
        every(in_order(p, q) for p, q in zip(a.rows, b.rows, strict=False))
        if len(a.rows) == len(b.rows)
        else False
    ),
    (Matrix, Tuple): matrix_tuple,
    (Ratio, Ratio): ratios,
    (Cases, Cases): piecewise,
    (Named, Named): named_sets,
    (Text, Text): lambda a, b: words.same(a.words, b.words),
    (Text, Expression): lambda a, b: a.words in words.INFINITE and b.node == sets.INFINITY,
}
RULES.update(_PAIRS)
for _rule, _type, _others in (
    (quantity_bare, Quantity, (Number, Expression)),
    (about, About, (About, Number, Expression, Quantity, Labelled, Ratio)),
    (one_item, Set, (Number, Expression, Quantity)),
    (one_item, List, (Number, Expression, Quantity)),
    (real_sets, Reals, (Reals, Tuple, Set, Named)),
    (real_sets, Named, (Tuple, Set)),
    (condition_set, Condition, (Reals, Tuple, Set, Named)),
    (solutions_items, Solutions, (Tuple, List, Set)),
    (solutions_value, Solutions, (Number, Expression)),
    (ratio_value, Ratio, (Number, Expression)),
    (family_other, Family, (Family, Expression, Number, List, Set, Tuple, Labelled, Solutions)),
    (
        labelled_bare,
        Labelled,
        (Number, Expression, Quantity, Base, Tuple, Set, List, Reals, Condition, Matrix, Ratio),
    ),
    (labelled_bare, Labelled, (Cases, Named, Text)),
    (lambda a, b: None, Unread, Value.__subclasses__()),  # computer algebra has to tell
):
    RULES.update({(_type, other): _rule for other in _others})
