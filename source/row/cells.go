package row

import "encoding/binary"

// IsBinary reports whether column i is binary data, which Text and the written forms have in
// base64. It panics if i is out of range.
func (r Row) IsBinary(i int) bool {
	_, f := r.cell(i)
	return f == blob || f == text && r.batch.columns.kinds[i] == Bytes
}

// IsString reports whether column i is written as a string in JSON. It panics if i is out of range.
func (r Row) IsString(i int) bool {
	_, f := r.cell(i)
	return written(f) == text
}

// AppendCells appends the row's cells in a form for digests. Rows of columns with the same names
// append the same bytes only if their cells are equal, and binary data equals no text.
// It appends nothing for the zero Row.
func (r Row) AppendCells(dst []byte) []byte {
	if r.batch == nil {
		return dst
	}
	for i := range r.batch.columns.names {
		b, f := r.cell(i)
		mark := "ntlub"[f]
		if r.IsBinary(i) {
			mark = 'b'
		}
		dst = append(binary.AppendUvarint(append(dst, mark), uint64(len(b))), b...)
	}
	return dst
}
