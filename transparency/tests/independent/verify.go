// Verifies a log with golang.org/x/mod/sumdb, which shares no code with Mill.
//
//	verify FOLDER PUBLIC-KEY [KEPT-CHECKPOINT]   prints `ok SIZE`, or what is wrong and exits with 1
//	verify key NAME                              prints a new secret key and its public key
package main

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

type state struct {
	tlog.Tree
	origin string
}

func open(data []byte, key string) (state, error) {
	verifier, err := note.NewVerifier(key)
	if err != nil {
		return state{}, err
	}
	opened, err := note.Open(data, note.VerifierList(verifier))
	if err != nil {
		return state{}, err
	}
	lines := strings.Split(opened.Text, "\n")
	if len(lines) != 4 || lines[3] != "" || lines[0] != verifier.Name() {
		return state{}, errors.New("what is signed is no checkpoint of this log")
	}
	size, err := strconv.ParseInt(lines[1], 10, 64)
	if err != nil {
		return state{}, err
	}
	root, err := tlog.ParseHash(lines[2])
	return state{tlog.Tree{N: size, Hash: root}, lines[0]}, err
}

// The tiles of a folder. Go's paths have the height of tiles in front; C2SP's have none.
type folder string

func (f folder) file(kind string, tile tlog.Tile) string {
	path := strings.SplitN(tile.Path(), "/", 4)[3]
	return filepath.Join(string(f), "tile", kind, path)
}

// All hashes of the tree, as Go makes them of the entries.
//
// Not by Go's TileHashReader: in x/mod 0.7.0 it leaves some tiles unchecked where the right edge has several hashes in one tile.
func (f folder) hashes(tree state) (tlog.HashReader, error) {
	var stored []tlog.Hash
	reader := tlog.HashReaderFunc(func(indexes []int64) ([]tlog.Hash, error) {
		var hashes []tlog.Hash
		for _, index := range indexes {
			hashes = append(hashes, stored[index])
		}
		return hashes, nil
	})
	for start := int64(0); start < tree.N; start += 256 {
		width := tree.N - start
		if width > 256 {
			width = 256
		}
		data, err := os.ReadFile(f.file("entries", tlog.Tile{H: 8, L: 0, N: start / 256, W: int(width)}))
		if err != nil {
			return nil, err
		}
		for i := start; i < start+width; i++ {
			if len(data) < 2 || len(data) < 2+int(data[0])<<8+int(data[1]) {
				return nil, fmt.Errorf("entry %d is cut short", i)
			}
			length := int(data[0])<<8 + int(data[1])
			hashes, err := tlog.StoredHashes(i, data[2:2+length], reader)
			if err != nil {
				return nil, err
			}
			stored, data = append(stored, hashes...), data[2+length:]
		}
		if len(data) > 0 {
			return nil, fmt.Errorf("something follows entry %d", start+width-1)
		}
	}
	root, err := tlog.TreeHash(tree.N, reader)
	if err != nil || root != tree.Hash {
		return nil, fmt.Errorf("the entries do not give the root (%v)", err)
	}
	return reader, nil
}

// Each tile must have the bytes that Go makes.
func (f folder) tiles(tree state, hashes tlog.HashReader) error {
	level := 0
	for row := tree.N; row > 0; row >>= 8 {
		for n := int64(0); n < row; n += 256 {
			width := row - n
			if width > 256 {
				width = 256
			}
			tile := tlog.Tile{H: 8, L: level, N: n / 256, W: int(width)}
			own, err := tlog.ReadTileData(tile, hashes)
			if err != nil {
				return err
			}
			path := f.file(strconv.Itoa(level), tile)
			data, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			if !bytes.Equal(own, data) {
				return fmt.Errorf("%s is another tile", path)
			}
		}
		level++
	}
	return nil
}

func hashLines(lines []string) (hashes []tlog.Hash, err error) {
	for _, line := range lines {
		hash, err := tlog.ParseHash(line)
		if err != nil {
			return nil, err
		}
		hashes = append(hashes, hash)
	}
	return hashes, nil
}

// What Mill wrote must hold, and be what Go makes of the tiles.
func (f folder) proofs(tree state, key string, hashes tlog.HashReader) error {
	paths, _ := filepath.Glob(filepath.Join(string(f), "proofs", "*"))
	for _, path := range paths {
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		number, err := strconv.ParseInt(strings.SplitN(filepath.Base(path), ".", 2)[0], 10, 64)
		if err != nil {
			return err
		}
		if strings.HasSuffix(path, ".consistency") {
			err = f.consistency(tree, number, strings.Fields(string(data)), key, hashes)
		} else {
			err = f.inclusion(number, data, key, hashes)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
	}
	return nil
}

func (f folder) consistency(tree state, size int64, lines []string, key string, hashes tlog.HashReader) error {
	kept, err := os.ReadFile(filepath.Join(string(f), fmt.Sprintf("kept-%d", size)))
	if err != nil {
		return err
	}
	old, err := open(kept, key)
	if err != nil {
		return err
	}
	proof, err := hashLines(lines)
	if err != nil {
		return err
	}
	if err := tlog.CheckTree(proof, tree.N, tree.Hash, old.N, old.Hash); err != nil {
		return err
	}
	own, err := tlog.ProveTree(tree.N, old.N, hashes)
	if err != nil || fmt.Sprint(own) != fmt.Sprint(tlog.TreeProof(proof)) {
		return fmt.Errorf("Go makes another proof (%v)", err)
	}
	return nil
}

func (f folder) inclusion(index int64, data []byte, key string, hashes tlog.HashReader) error {
	parts := bytes.SplitN(data, []byte("\n\n"), 2)
	lines := strings.Split(string(parts[0]), "\n")
	if lines[0] != "c2sp.org/tlog-proof@v1" || lines[1] != fmt.Sprintf("index %d", index) {
		return errors.New("this is no proof of the entry")
	}
	signed, err := open(parts[1], key)
	if err != nil {
		return err
	}
	proof, err := hashLines(lines[2:])
	if err != nil {
		return err
	}
	leaf, err := hashes.ReadHashes([]int64{tlog.StoredHashIndex(0, index)})
	if err != nil {
		return err
	}
	if err := tlog.CheckRecord(proof, signed.N, signed.Hash, index, leaf[0]); err != nil {
		return err
	}
	own, err := tlog.ProveRecord(signed.N, index, hashes)
	if err != nil || fmt.Sprint(own) != fmt.Sprint(tlog.RecordProof(proof)) {
		return fmt.Errorf("Go makes another proof (%v)", err)
	}
	return nil
}

func verify(path, key string, kept []string) error {
	data, err := os.ReadFile(filepath.Join(path, "checkpoint"))
	if err != nil {
		return err
	}
	tree, err := open(data, key)
	if err != nil {
		return err
	}
	hashes, err := folder(path).hashes(tree)
	if err != nil {
		return err
	}
	for _, path := range kept {
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		old, err := open(data, key)
		if err != nil {
			return err
		}
		if old.N > tree.N {
			return fmt.Errorf("rolled back from %d to %d", old.N, tree.N)
		}
		if root, err := tlog.TreeHash(old.N, hashes); err != nil || root != old.Hash {
			return fmt.Errorf("forked or rewritten before %d (%v)", old.N, err)
		}
	}
	if err := folder(path).tiles(tree, hashes); err != nil {
		return err
	}
	if err := folder(path).proofs(tree, key, hashes); err != nil {
		return err
	}
	fmt.Println("ok", tree.N)
	return nil
}

func main() {
	if os.Args[1] == "key" {
		secret, public, err := note.GenerateKey(rand.Reader, os.Args[2])
		if err != nil {
			panic(err)
		}
		fmt.Println(secret)
		fmt.Println(public)
		return
	}
	if err := verify(os.Args[1], os.Args[2], os.Args[3:]); err != nil {
		fmt.Println("wrong:", err)
		os.Exit(1)
	}
}
