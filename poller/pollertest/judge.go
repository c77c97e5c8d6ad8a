package pollertest

import "fmt"

// judge returns an error if the delivered records are wrong, given the number of
// faults and the largest number of records in a batch.
func (x *explorer[T]) judge(delivered []T, faults, batch int) error {
	times := make([]int, len(x.texts))
	at := make([]int, len(delivered)) // the index of each record in Expected
	for i, r := range delivered {
		text := x.Text(r)
		j, ok := x.want[text]
		if !ok {
			return fmt.Errorf("record %s was delivered and is not expected", text)
		}
		at[i] = j
		times[j]++
	}
	var lost, twice []string
	for j, n := range times {
		switch {
		case n == 0:
			lost = append(lost, x.texts[j])
		case n > 1:
			twice = append(twice, x.texts[j])
		}
	}
	switch {
	case len(lost) > 0:
		return fmt.Errorf("record %s lost (%d lost of %d)", lost[0], len(lost), len(times))
	case len(twice) > 0 && x.ExactlyOnce:
		return fmt.Errorf("record %s delivered twice (%d twice of %d)", twice[0], len(twice), len(times))
	}
	back := 0
	for i, j := range at {
		before := -1
		if i > 0 {
			before = at[i-1]
		}
		switch {
		case j == before+1:
		case j <= before && before-j < batch: // a batch again, from its first record
			if back++; back > faults {
				return fmt.Errorf("record %s delivered twice: the %d faults do not explain so many batches", x.texts[j], faults)
			}
		case j <= before && times[j] > 1:
			return fmt.Errorf("record %s delivered twice with more than one batch (%d records, a batch has at most %d)", x.texts[j], before-j+1, batch)
		default:
			return fmt.Errorf("record %s out of order: it is at position %d", x.texts[j], i)
		}
	}
	return nil
}
