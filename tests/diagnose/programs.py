"""Programs of XLA for three machines, as jax 0.10.2 printed them, without what is not read.

Of float32 arrays of 4096 x 512. A TPU's layouts name tiles, T, and by S(1) the memory on its chip.
"""

SUM = """
%region (a: f32[], b: f32[]) -> f32[] {
  %a = f32[] parameter(0)
  %b = f32[] parameter(1)
  ROOT %add = f32[] add(%a, %b)
}
"""

PRODUCT = {
    "h100": """
%wrapped_multiply_computation (param_0: f32[4096,512], param_1: f32[4096,512]) -> f32[4096,512] {
  %param_0 = f32[4096,512]{1,0} parameter(0)
  %param_1 = f32[4096,512]{1,0} parameter(1)
  ROOT %mul.1.1 = f32[4096,512]{1,0} multiply(%param_0, %param_1)
}

ENTRY %main.1 (x.1: f32[4096,512], y.1: f32[4096,512]) -> f32[4096,512] {
  %y.1 = f32[4096,512]{1,0} parameter(1), metadata={op_name="y"}
  %x.1 = f32[4096,512]{1,0} parameter(0), metadata={op_name="x"}
  ROOT %wrapped_multiply = f32[4096,512]{1,0} fusion(%x.1, %y.1), kind=kLoop, \
calls=%wrapped_multiply_computation
}
""",
    "v5e": """
ENTRY %main.1 (x.1: f32[4096,512], y.1: f32[4096,512]) -> f32[4096,512] {
  %y.1 = f32[4096,512]{1,0:T(8,128)} parameter(1), metadata={op_name="y"}
  %x.1 = f32[4096,512]{1,0:T(8,128)} parameter(0), metadata={op_name="x"}
  ROOT %mul.1 = f32[4096,512]{1,0:T(8,128)} multiply(%x.1, %y.1)
}
""",
}
PRODUCT["cpu"] = PRODUCT["h100"]

SUM_OF_PRODUCT = {
    "h100": SUM
    + """
%fused_reduce (param_0.3: f32[4096,512], param_1.4: f32[4096,512]) -> f32[1024] {
  %param_0.3 = f32[4096,512]{1,0} parameter(0)
  %param_1.4 = f32[4096,512]{1,0} parameter(1)
  %mul.1.1 = f32[4096,512]{1,0} multiply(%param_0.3, %param_1.4)
  %bitcast.1.1 = f32[1024,2048]{1,0} bitcast(%mul.1.1)
  %constant_1_2 = f32[] constant(0)
  ROOT %reduce.1.1 = f32[1024]{0} reduce(%bitcast.1.1, %constant_1_2), dimensions={1}, \
to_apply=%region
}

%fused_reduce.1 (param_0.2: f32[1024]) -> f32[] {
  %param_0.2 = f32[1024]{0} parameter(0)
  %constant_1_1 = f32[] constant(0)
  ROOT %reduce_sum.7.1 = f32[] reduce(%param_0.2, %constant_1_1), dimensions={0}, to_apply=%region
}

ENTRY %main.2 (x.1: f32[4096,512], y.1: f32[4096,512]) -> f32[] {
  %y.1 = f32[4096,512]{1,0} parameter(1)
  %x.1 = f32[4096,512]{1,0} parameter(0)
  %input_reduce_fusion = f32[1024]{0} fusion(%x.1, %y.1), kind=kInput, calls=%fused_reduce
  ROOT %input_reduce_fusion.1 = f32[] fusion(%input_reduce_fusion), kind=kInput, \
calls=%fused_reduce.1
}
""",
    "v5e": SUM
    + """
%fused_computation (param_0.2: f32[4096,512], param_1.2: f32[4096,512]) -> f32[] {
  %param_0.2 = f32[4096,512]{1,0:T(8,128)} parameter(0)
  %param_1.2 = f32[4096,512]{1,0:T(8,128)} parameter(1)
  %mul.0 = f32[4096,512]{1,0:T(8,128)} multiply(%param_0.2, %param_1.2)
  %constant.0 = f32[]{:T(128)} constant(0)
  ROOT %reduce_sum.0 = f32[]{:T(128)} reduce(%mul.0, %constant.0), dimensions={0,1}, \
to_apply=%region
}

ENTRY %main.2 (x.1: f32[4096,512], y.1: f32[4096,512]) -> f32[] {
  %y.1 = f32[4096,512]{1,0:T(8,128)} parameter(1)
  %x.1 = f32[4096,512]{1,0:T(8,128)} parameter(0)
  ROOT %multiply_reduce_fusion = f32[]{:T(128)} fusion(%x.1, %y.1), kind=kLoop, \
calls=%fused_computation
}
""",
    "cpu": SUM
    + """
%fused_computation (param_0.2: f32[4096,512], param_1.2: f32[4096,512]) -> f32[] {
  %param_0.2 = f32[4096,512]{1,0} parameter(0)
  %param_1.2 = f32[4096,512]{1,0} parameter(1)
  %mul.0 = f32[4096,512]{1,0} multiply(%param_0.2, %param_1.2)
  %constant.0 = f32[] constant(0)
  ROOT %reduce_sum.0 = f32[] reduce(%mul.0, %constant.0), dimensions={0,1}, to_apply=%region
}

ENTRY %main.2 (x.1: f32[4096,512], y.1: f32[4096,512]) -> f32[] {
  %x.1 = f32[4096,512]{1,0} parameter(0)
  %y.1 = f32[4096,512]{1,0} parameter(1)
  ROOT %ynn_fusion = f32[] fusion(%x.1, %y.1), kind=kCustom, calls=%fused_computation, \
backend_config={"fusion_config":{"kind":"__ynn_fusion"},"outer_dimension_partitions":[]}
}
""",
}

# The array is read for its maxima while a copy of it goes to the chip, where the rest is done.
SOFTMAX_ON_TPU = (
    SUM
    + """
%fused_computation.2 (param_0.9: f32[4096,512], param_1.11: f32[4096]) -> f32[4096] {
  %param_0.9 = f32[4096,512]{1,0:T(8,128)S(1)} parameter(0)
  %param_1.11 = f32[4096]{0:T(1024)S(1)} parameter(1)
  %sub.10 = f32[4096,512]{1,0:T(8,128)} broadcast(%param_1.11), dimensions={0}
  %sub.8 = f32[4096,512]{1,0:T(8,128)} subtract(%param_0.9, %sub.10)
  %exp.5 = f32[4096,512]{1,0:T(8,128)} exponential(%sub.8)
  %constant.2 = f32[]{:T(128)} constant(0)
  ROOT %reduce_sum.0 = f32[4096]{0:T(1024)S(1)} reduce(%exp.5, %constant.2), dimensions={1}, \
to_apply=%region
}

%fused_computation.1 (param_0.8: f32[4096,512], param_1.10: f32[4096], param_2.3: f32[4096]) -> \
f32[4096,512] {
  %param_0.8 = f32[4096,512]{1,0:T(8,128)S(1)} parameter(0)
  %param_2.3 = f32[4096]{0:T(1024)S(1)} parameter(2)
  %sub.9 = f32[4096,512]{1,0:T(8,128)} broadcast(%param_2.3), dimensions={0}
  %sub.2 = f32[4096,512]{1,0:T(8,128)} subtract(%param_0.8, %sub.9)
  %exp.3 = f32[4096,512]{1,0:T(8,128)} exponential(%sub.2)
  %param_1.10 = f32[4096]{0:T(1024)S(1)} parameter(1)
  %div.1 = f32[4096,512]{1,0:T(8,128)} broadcast(%param_1.10), dimensions={0}
  ROOT %div.0 = f32[4096,512]{1,0:T(8,128)} divide(%exp.3, %div.1)
}

ENTRY %main.3 (x.1: f32[4096,512]) -> f32[4096,512] {
  %constant.3 = f32[]{:T(128)} constant(-inf)
  %x.1 = f32[4096,512]{1,0:T(8,128)} parameter(0)
  %copy-start = (f32[4096,512]{1,0:T(8,128)S(1)}, f32[4096,512]{1,0:T(8,128)}, u32[]{:S(2)}) \
copy-start(%x.1)
  %reduce_max.7 = f32[4096]{0:T(1024)S(1)} reduce(%x.1, %constant.3), dimensions={1}, \
to_apply=%region
  %copy-done = f32[4096,512]{1,0:T(8,128)S(1)} copy-done(%copy-start)
  %fusion.1 = f32[4096]{0:T(1024)S(1)} fusion(%copy-done, %reduce_max.7), kind=kLoop, \
calls=%fused_computation.2
  ROOT %fusion = f32[4096,512]{1,0:T(8,128)} fusion(%copy-done, %fusion.1, %reduce_max.7), \
kind=kLoop, calls=%fused_computation.1
}
"""
)

# Ten turns on the chip; the array is fetched before and brought back after.
LOOP_ON_TPU = """
%body (arg: (s32[], f32[4096,512])) -> (s32[], f32[4096,512]) {
  %arg = (s32[]{:T(128)}, f32[4096,512]{1,0:T(8,128)S(1)}) parameter(0)
  %one = s32[]{:T(128)} constant(1)
  %turn = s32[]{:T(128)} get-tuple-element(%arg), index=0
  %add.7 = s32[]{:T(128)} add(%turn, %one)
  %x = f32[4096,512]{1,0:T(8,128)S(1)} get-tuple-element(%arg), index=1
  %sin.5 = f32[4096,512]{1,0:T(8,128)S(1)} sine(%x)
  ROOT %tuple.11 = (s32[]{:T(128)}, f32[4096,512]{1,0:T(8,128)S(1)}) tuple(%add.7, %sin.5)
}

%condition (arg.3: (s32[], f32[4096,512])) -> pred[] {
  %constant.7 = s32[]{:T(128)} constant(10)
  %arg.3 = (s32[]{:T(128)}, f32[4096,512]{1,0:T(8,128)S(1)}) parameter(0)
  %turn.3 = s32[]{:T(128)} get-tuple-element(%arg.3), index=0
  ROOT %lt.0 = pred[]{:T(512)} compare(%turn.3, %constant.7), direction=LT
}

ENTRY %main.5 (x.1: f32[4096,512]) -> f32[4096,512] {
  %constant.5 = s32[]{:T(128)} constant(0)
  %x.1 = f32[4096,512]{1,0:T(8,128)} parameter(0)
  %copy-start.1 = (f32[4096,512]{1,0:T(8,128)S(1)}, f32[4096,512]{1,0:T(8,128)}, u32[]{:S(2)}) \
copy-start(%x.1)
  %copy-done.1 = f32[4096,512]{1,0:T(8,128)S(1)} copy-done(%copy-start.1)
  %tuple.14 = (s32[]{:T(128)}, f32[4096,512]{1,0:T(8,128)S(1)}) tuple(%constant.5, %copy-done.1)
  %while = (s32[]{:T(128)}, f32[4096,512]{1,0:T(8,128)S(1)}) while(%tuple.14), \
condition=%condition, body=%body
  %gte.43 = f32[4096,512]{1,0:T(8,128)S(1)} get-tuple-element(%while), index=1
  %copy-start = (f32[4096,512]{1,0:T(8,128)}, f32[4096,512]{1,0:T(8,128)S(1)}, u32[]{:S(2)}) \
copy-start(%gte.43)
  ROOT %copy-done = f32[4096,512]{1,0:T(8,128)} copy-done(%copy-start)
}
"""

# Each of 4096 turns takes a row, and writes a row.
ROWS_ON_GPU = """
%fused_update (param_0: f32[4096,512], param_1.1: s32[], param_2.3: f32[1,512]) -> f32[4096,512] {
  %param_0 = f32[4096,512]{1,0} parameter(0)
  %param_2.3 = f32[1,512]{1,0} parameter(2)
  %copy.9 = f32[1,512]{1,0} copy(%param_2.3)
  %param_1.1 = s32[] parameter(1)
  %constant_0_2 = s32[] constant(0)
  ROOT %dynamic_update_slice.0.1 = f32[4096,512]{1,0} dynamic-update-slice(%param_0, %copy.9, \
%param_1.1, %constant_0_2)
}

%fused_slice (param_0.7: f32[4096,512], param_1.6: s32[]) -> f32[1,512] {
  %param_0.7 = f32[4096,512]{1,0} parameter(0)
  %param_1.6 = s32[] parameter(1)
  %constant_0_1 = s32[] constant(0)
  %sine.1 = f32[4096,512]{1,0} sine(%param_0.7)
  ROOT %dynamic_slice.0.1 = f32[1,512]{1,0} dynamic-slice(%sine.1, %param_1.6, %constant_0_1), \
dynamic_slice_sizes={1,512}
}

%body (arg: (s32[], f32[4096,512], f32[4096,512])) -> (s32[], f32[4096,512], f32[4096,512]) {
  %arg = (s32[], f32[4096,512]{1,0}, f32[4096,512]{1,0}) parameter(0)
  %turn = s32[] get-tuple-element(%arg), index=0
  %from = f32[4096,512]{1,0} get-tuple-element(%arg), index=2
  %to = f32[4096,512]{1,0} get-tuple-element(%arg), index=1
  %row = f32[1,512]{1,0} fusion(%from, %turn), kind=kCustom, calls=%fused_slice
  %written = f32[4096,512]{1,0} fusion(%to, %turn, %row), kind=kCustom, calls=%fused_update
  ROOT %tuple.3 = (s32[], f32[4096,512]{1,0}, f32[4096,512]{1,0}) tuple(%turn, %written, %from)
}

%condition (arg.3: (s32[], f32[4096,512], f32[4096,512])) -> pred[] {
  %arg.3 = (s32[], f32[4096,512]{1,0}, f32[4096,512]{1,0}) parameter(0)
  ROOT %gte.12 = pred[] get-tuple-element(%arg.3), index=0
}

ENTRY %main.7 (x.1: f32[4096,512], y.1: f32[4096,512]) -> f32[4096,512] {
  %constant_12_0 = s32[] constant(0)
  %x.1 = f32[4096,512]{1,0} parameter(0)
  %y.1 = f32[4096,512]{1,0} parameter(1)
  %tuple = (s32[], f32[4096,512]{1,0}, f32[4096,512]{1,0}) tuple(%constant_12_0, %y.1, %x.1)
  %while.5 = (s32[], f32[4096,512]{1,0}, f32[4096,512]{1,0}) while(%tuple), condition=%condition, \
body=%body, backend_config={"known_trip_count":{"n":"4096"}}
  ROOT %while.7.0 = f32[4096,512]{1,0} get-tuple-element(%while.5), index=1
}
"""
