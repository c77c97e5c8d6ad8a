package row

import "bytes"

// AppendCSV appends the row to dst as one CSV record by RFC 4180, terminated by
// CR LF. NULL is an empty field, and the empty string is "". Readers that
// distinguish the two, such as COPY of Postgres, understand this. A row with a
// single column that is NULL is an empty line. Bytes that are not valid UTF-8 are
// written as they are. AppendCSV allocates only to grow dst. It returns an error only
// for the zero Row and for one with an unchanged column, which CSV cannot express.
func (r Row) AppendCSV(dst []byte) ([]byte, error) {
	if r.batch == nil {
		return dst, errZero
	}
	for i := range r.batch.columns.names {
		if i > 0 {
			dst = append(dst, ',')
		}
		b, f := r.cell(i)
		switch f {
		case null:
		case absent:
			return dst, errAbsent
		default:
			dst = appendField(dst, b)
		}
	}
	return append(dst, '\r', '\n'), nil
}

// AppendCSVHeader appends the names of the columns to dst as one CSV record. It
// appends nothing for the zero Row.
func (r Row) AppendCSVHeader(dst []byte) []byte {
	if r.batch == nil {
		return dst
	}
	for i, name := range r.batch.columns.names {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = appendField(dst, []byte(name))
	}
	return append(dst, '\r', '\n')
}

// appendField appends s, quoted if a reader would misread it otherwise.
func appendField(dst, s []byte) []byte {
	if !needsQuotes(s) {
		return append(dst, s...)
	}
	return append(appendDoubled(append(dst, '"'), s), '"')
}

// appendDoubled appends s with each quote doubled.
func appendDoubled(dst, s []byte) []byte {
	for {
		i := bytes.IndexByte(s, '"')
		if i < 0 {
			break
		}
		dst = append(dst, s[:i]...)
		dst = append(dst, '"', '"')
		s = s[i+1:]
	}
	return append(dst, s...)
}

// special marks the bytes that end or quote a field.
var special = [256]bool{',': true, '"': true, '\r': true, '\n': true}

func needsQuotes(s []byte) bool {
	if len(s) == 0 {
		return true
	}
	// Many readers trim spaces, and Postgres reads \. as the end of the data.
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
