package row

// Project returns for each row one with other columns: column i has the value of the
// column indexes[i] of the row, or is [Unchanged] where indexes[i] is negative. All rows
// must have the same columns. Columns must have as many columns as there are indexes, and
// kinds that fit. The rows that it returns share their memory, and none with the others.
func Project(rows []Row, columns *Columns, indexes []int) []Row {
	if len(rows) == 0 {
		return nil
	}
	size := 0
	for _, r := range rows {
		size += r.Size()
	}
	b := &batch{columns: columns, arena: make([]byte, 0, size), cells: make([]uint32, 0, len(rows)*len(indexes))}
	projected := make([]Row, len(rows))
	for n, r := range rows {
		for _, i := range indexes {
			f := absent
			if i >= 0 {
				var text []byte
				text, f = r.cell(i)
				b.arena = append(b.arena, text...)
			}
			b.cells = append(b.cells, uint32(len(b.arena))<<formBits|uint32(f))
		}
		projected[n] = Row{b, n}
	}
	return projected
}
