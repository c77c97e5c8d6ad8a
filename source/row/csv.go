package row

import "bytes"

// AppendCSV appends the row as one record of CSV as RFC 4180 has it, ending in
// CR LF. NULL is nothing between the commas, the empty string is "", which
// readers that tell the two apart (such as COPY of Postgres) understand. A
// record of one column that is NULL is an empty line. Bytes that are not valid
// UTF-8 are written as they are. It allocates only to grow dst. The error is of
// the zero Row, which is no record.
func (r Row) AppendCSV(dst []byte) ([]byte, error) {
	if r.batch == nil {
		return dst, errZero
	}
	for i := range r.batch.columns.names {
		if i > 0 {
			dst = append(dst, ',')
		}
		if b, f := r.cell(i); f != null {
			dst = appendField(dst, b)
		}
	}
	return append(dst, '\r', '\n'), nil
}

// AppendCSVHeader appends the columns' names as one CSV record; nothing for the
// zero Row.
func (r Row) AppendCSVHeader(dst []byte) []byte {
	if r.batch == nil {
		return dst
	}
	return r.batch.columns.AppendCSVHeader(dst)
}

// appendField appends s, quoted if it would be misread otherwise.
func appendField(dst, s []byte) []byte {
	if !needsQuotes(s) {
		return append(dst, s...)
	}
	dst = append(dst, '"')
	for {
		i := bytes.IndexByte(s, '"')
		if i < 0 {
			break
		}
		dst = append(dst, s[:i]...)
		dst = append(dst, '"', '"')
		s = s[i+1:]
	}
	return append(append(dst, s...), '"')
}

// special has the bytes that end or quote a field.
var special = [256]bool{',': true, '"': true, '\r': true, '\n': true}

func needsQuotes(s []byte) bool {
	if len(s) == 0 {
		return true
	}
	// Many readers trim spaces, and Postgres takes \. for the end of the data.
	if s[0] <= ' ' || s[len(s)-1] <= ' ' || string(s) == `\.` {
		return true
	}
	for _, c := range s {
		if special[c] {
			return true
		}
	}
	return false
}
