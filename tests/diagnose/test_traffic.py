"""What is counted in programs whose bytes are known by hand."""

from __future__ import annotations

import pytest

from diffmetrics.diagnose import _traffic as traffic
from diffmetrics.diagnose._traffic import Traffic
from tests.diagnose import programs

ARRAY = 4096 * 512 * 4
MACHINES = ("h100", "v5e", "cpu")


@pytest.mark.parametrize("machine", MACHINES)
def test_a_product_reads_two_arrays_and_writes_one(machine: str):
    assert traffic.count(programs.PRODUCT[machine]) == Traffic(3 * ARRAY, 1)


@pytest.mark.parametrize("machine", MACHINES)
def test_a_sum_reads_two_arrays_and_writes_a_number(machine: str):
    found = traffic.count(programs.SUM_OF_PRODUCT[machine])
    partial = 2 * 1024 * 4 if machine == "h100" else 0  # a sum for each block, written and read
    assert found == Traffic(2 * ARRAY + partial + 4, 2 if machine == "h100" else 1)


def test_what_stays_on_the_chip_costs_nothing():
    found = traffic.count(programs.SOFTMAX_ON_TPU)
    assert found == Traffic(2 * ARRAY + ARRAY + 4, 3)  # and the constant that the maximum starts at


def test_a_loop_costs_its_body_as_often_as_it_runs():
    inside = programs.LOOP_ON_TPU.replace("sine(%x)", "sine(%x), metadata={}")
    # Fetched, brought back, and ten times the turns' own number, read and written.
    assert traffic.count(inside) == Traffic(2 * ARRAY + 10 * 3 * 4, 10)
    outside = inside.replace("S(1)} sine", "} sine")
    assert traffic.count(outside).bytes == 12 * ARRAY + 10 * 3 * 4


def test_a_loop_of_unknown_length_is_counted_once_and_told():
    endless = programs.LOOP_ON_TPU.replace("direction=LT", "direction=NE")
    assert traffic.count(endless) == Traffic(2 * ARRAY + 3 * 4, 1, endless=1)


def test_of_a_slice_only_the_slice_is_read_and_of_an_update_only_the_update_written():
    row, number = 512 * 4, 4
    turn = 2 * (row + number) + 2 * row  # the slice in and out, the update in and out
    assert traffic.count(programs.ROWS_ON_GPU) == Traffic(4096 * turn, 2 * 4096)


def test_an_update_of_what_a_fusion_makes_itself_writes_all_of_it():
    made = programs.ROWS_ON_GPU.replace(
        "dynamic-update-slice(%param_0,", "dynamic-update-slice(%z,"
    )
    zeros = "  %z = f32[4096,512]{1,0} broadcast(%constant_0_2), dimensions={}\n  ROOT %dynamic_up"
    made = made.replace("  ROOT %dynamic_up", zeros)
    row, number = 512 * 4, 4
    assert traffic.count(made) == Traffic(4096 * (2 * (row + number) + row + ARRAY), 2 * 4096)


def test_what_is_read_twice_in_one_operation_counts_once():
    text = """
ENTRY %main (x: f32[10]) -> f32[10] {
  %x = f32[10]{0} parameter(0)
  ROOT %y = f32[10]{0} multiply(%x, %x)
}
"""
    assert traffic.count(text) == Traffic(80, 1)


def test_only_the_dearest_branch_counts():
    branches = """
%cheap (a: f32[10]) -> f32[10] {
  ROOT %a = f32[10]{0} parameter(0)
}

%dear (b: f32[10]) -> f32[10] {
  %b = f32[10]{0} parameter(0)
  ROOT %c = f32[10]{0} negate(%b)
}

ENTRY %main (x: f32[10], p: pred[]) -> f32[10] {
  %x = f32[10]{0} parameter(0)
  %p = pred[] parameter(1)
  ROOT %y = f32[10]{0} conditional(%p, %x, %x), branch_computations={%cheap, %dear}
}
"""
    assert traffic.count(branches) == Traffic(80, 1)
    both = branches.replace("branch_computations={%cheap, %dear}",
                            "true_computation=%dear, false_computation=%cheap")  # fmt: skip
    assert traffic.count(both) == Traffic(80, 1)


def test_half_precision_and_tuples_are_measured_by_their_types():
    text = """
ENTRY %main (x: bf16[8,100]) -> (bf16[8,100], pred[8,100]) {
  %x = bf16[8,100]{1,0:T(8,128)(2,1)} parameter(0)
  ROOT %y = (bf16[8,100]{1,0:T(8,128)(2,1)}, /*index=1*/pred[8,100]{1,0:T(8,128)(4,1)S(1)}) \
custom-call(%x), custom_call_target="both"
}
"""
    assert traffic.count(text) == Traffic(2 * 1600, 1)


def test_memory_that_is_only_set_aside_costs_nothing():
    text = """
ENTRY %main () -> f32[10] {
  ROOT %y = f32[10]{0} custom-call(), custom_call_target="AllocateBuffer"
}
"""
    assert traffic.count(text) == Traffic()
