/** The layout of regulatory.db (version 20) as a Kaitai Struct description, for tools in other languages. */
export const regulatoryDbKsy = `meta:
  id: regulatory_db
  title: Linux wireless regulatory database, version 20
  file-extension: db
  endian: be
seq:
  - id: magic
    contents: RGDB
  - id: version
    type: u4
    valid: 20
  - id: countries
    type: country
    repeat: until
    repeat-until: _.collection_ptr == 0
types:
  country:
    seq:
      - id: alpha2
        type: str
        size: 2
        encoding: ASCII
      - id: collection_ptr
        type: u2
    instances:
      collection:
        pos: collection_ptr * 4
        type: collection
        if: collection_ptr != 0
  collection:
    seq:
      - id: len
        type: u1
      - id: num_rules
        type: u1
      - id: dfs_region
        type: u1
      - id: more
        size: ((len + 1) & ~1) - 3
      - id: rules
        type: rule_ptr
        repeat: expr
        repeat-expr: num_rules
  rule_ptr:
    seq:
      - id: ptr
        type: u2
    instances:
      rule:
        pos: ptr * 4
        type: rule
  rule:
    seq:
      - id: len
        type: u1
      - id: flags
        type: u1
      - id: max_eirp_mbm
        type: u2
      - id: start_khz
        type: u4
      - id: end_khz
        type: u4
      - id: max_bandwidth_khz
        type: u4
      - id: cac_timeout_s
        type: u2
        if: len >= 18
      - id: wmm_ptr
        type: u2
        if: len >= 20
    instances:
      wmm:
        pos: wmm_ptr * 4
        type: access_category
        repeat: expr
        repeat-expr: 8
        if: len >= 20
  access_category:
    seq:
      - id: ecw_min
        type: b4
      - id: ecw_max
        type: b4
      - id: aifsn
        type: u1
      - id: cot_ms
        type: u2
`;
