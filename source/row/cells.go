package row

import "encoding/binary"

// AppendCells appends the row's cells in a form for digests. Rows of columns with the same names
// append the same bytes only if their cells are equal, and binary data equals no text.
// It appends nothing for the zero Row.
func (r Row) AppendCells(dst []byte) []byte {
	if r.batch == nil {
		return dst
	}
	for i, kind := range r.batch.columns.kinds {
		b, f := r.cell(i)
		if f == text && kind == Bytes {
			dst = append(dst, 'b')
		} else {
			dst = append(dst, "ntlu"[f])
		}
		dst = append(binary.AppendUvarint(dst, uint64(len(b))), b...)
	}
	return dst
}
