package changelog

import (
	"fmt"
	"hash/crc32"
	"strconv"
	"strings"

	"github.com/artifactofdevotion/devotion/source"
)

// position is a cursor, decoded. A cursor has the form PHASE TABLE;MARKS;SAFE;INNER.
type position struct {
	loading bool          // inner is a cursor of the table itself; otherwise of the change table
	marks   string        // of the table, when the cursor was made; "" if they are not known
	safe    int64         // no gap up to this change matters
	inner   source.Cursor // "" is the position before the first row or change
}

// encode returns the cursor of a table with a label.
func (p position) encode(label string) source.Cursor {
	phase := "c"
	if p.loading {
		phase = "l"
	}
	return source.Cursor(fmt.Sprintf("%s%08x;%s;%d;%s", phase, crc32.ChecksumIEEE([]byte(label)), p.marks, p.safe, p.inner))
}

// decode returns the position of a cursor that encode made.
func decode(c source.Cursor, label string) (p position, err error) {
	if err := c.Validate(); err != nil {
		return p, permanent("%s: %w", label, err)
	}
	parts := strings.SplitN(string(c), ";", 4)
	if len(parts) != 4 || len(parts[0]) != 9 {
		return p, permanent("%s: the cursor %q was not made by this package", label, c.Short())
	}
	p.loading, p.marks, p.inner = parts[0][0] == 'l', parts[1], source.Cursor(parts[3])
	p.safe, err = strconv.ParseInt(parts[2], 10, 64)
	if err != nil || p.encode(label) != c {
		return p, permanent("%s: the cursor %q is of another table, or damaged", label, c.Short())
	}
	return p, nil
}

// marksOf shortens marks for a cursor.
func marksOf(marks string) string {
	if marks == "" {
		return ""
	}
	return fmt.Sprintf("%08x", crc32.ChecksumIEEE([]byte(marks)))
}
