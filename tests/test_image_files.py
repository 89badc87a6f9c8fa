"Every file is read as a person would see it, or it is counted and named on one line."
import io, os, random, struct

import numpy as np
import pytest
from PIL import Image, ImageOps
from unremix.data import load_dataset
from unremix.image_files import DatasetMissing, read_square
from unremix.image_parts import tell
from unremix.own_images import ImageFiles

SIZE = 12
FORMATS = 'PNG', 'TIFF', 'JPEG', 'WEBP', 'GIF', 'PPM', 'BMP', 'TGA', 'JPEG2000', 'AVIF', 'ICO', 'PCX', 'SGI', 'QOI', 'ICNS', 'IM', 'DDS'
BYTES = '1', 'L', 'P', 'RGB', 'RGBX', 'RGBA', 'CMYK', 'YCbCr', 'LAB', 'HSV', 'LA', 'PA', 'La', 'RGBa'

def noise(*shape, top=256, dtype=np.uint8): return np.random.default_rng(0).integers(0, top, (SIZE, SIZE, *shape)).astype(dtype)

def sample(mode):
    "An image of a mode, made band by band."
    if mode == '1': return Image.fromarray(noise(top=2)*np.uint8(255)).convert('1')
    if mode == 'P': return Image.fromarray(noise(3)).quantize(16)
    if mode == 'PA': return Image.fromarray(noise(4)).convert('RGB').convert('PA')
    if mode in ('La', 'RGBa'): return sample(mode.upper()).convert(mode)
    bands = [Image.fromarray(b) for b in np.moveaxis(noise(len(Image.new(mode, (1, 1)).getbands())), 2, 0)] if mode != 'L' else []
    return Image.merge(mode, bands) if bands else Image.fromarray(noise())

def save(image, path, fmt, **options):
    "Whether Pillow can write this, and its own reader gets it back."
    try:
        image.save(path, fmt, **options)
        with Image.open(path) as again: again.load()
    except Exception: return False
    return True

def by_pillow(path):
    "Pillow's own conversions: upright, then pasted on a white page through its opacity."
    with Image.open(path) as image: image = ImageOps.exif_transpose(image)
    if image.mode in ('La', 'RGBa'): image = image.convert(image.mode.upper())
    colours = image.convert('RGBA')
    page = Image.new('RGB', image.size, 'white')
    page.paste(colours.convert('RGB'), mask=colours.getchannel('A'))
    return np.array(ImageOps.fit(page, (SIZE, SIZE), Image.Resampling.BILINEAR)).astype(int)

def read(path, size=SIZE): return read_square(str(path), size).astype(int)

def grey(path): # (h w) of an image that must come out grey
    seen = read(path)
    assert (seen == seen[..., :1]).all()
    return seen[..., 0]

@pytest.mark.parametrize('mode', BYTES)
def test_bytes_of_every_mode_and_format(mode, tmp_path):
    image, tried = sample(mode), 0
    for fmt in FORMATS:
        if not save(image, path := tmp_path/f'image.{fmt}', fmt): continue
        tried += 1
        assert np.abs(read(path) - by_pillow(path)).max() <= 1, fmt # pasting and compositing round differently
    assert tried >= (2 if mode in ('LAB', 'HSV', 'RGBa') else 0 if mode == 'La' else 4)

DEEP = np.arange(SIZE*SIZE).reshape(SIZE, SIZE)/(SIZE*SIZE - 1) # 0 to 1

@pytest.mark.parametrize('name,values,fmt', [
    ('16 bits', (DEEP*65535).round().astype('<u2'), 'PNG'), ('16 bits', (DEEP*65535).round().astype('<u2'), 'TIFF'),
    ('16 bits, big end first', (DEEP*65535).round().astype('>u2'), 'TIFF'), ('16 bits', (DEEP*65535).round().astype('<u2'), 'JPEG2000'),
    ('16 bits in 32', (DEEP*65535).round().astype('<i4'), 'TIFF'), ('8 bits in 32', (DEEP*255).round().astype('<i4'), 'TIFF'),
    ('16 bits in 32', (DEEP*65535).round().astype('<i4'), 'PPM'), ('32 bits', (DEEP*2e9).round().astype('<i4'), 'TIFF'),
    ('negative', (DEEP*2000 - 1000).round().astype('<i4'), 'TIFF'), ('floats to 1', DEEP.astype('<f4'), 'TIFF'),
    ('floats to 255', (DEEP*255).astype('<f4'), 'TIFF'), ('floats to 1000', (DEEP*1000).astype('<f4'), 'TIFF'),
    ('floats about 0', (DEEP*2 - 1).astype('<f4'), 'TIFF')], ids=str)
def test_deep_greys_keep_their_steps(name, values, fmt, tmp_path):
    path = tmp_path/f'deep.{fmt}'
    Image.fromarray(values).save(path, fmt)
    seen = grey(path)
    assert np.abs(seen - DEEP*255).max() <= 1 and len(np.unique(seen)) >= 140

def test_deep_greys_have_the_scale_of_their_kind(tmp_path):
    "A dark image stays dark: no stretching where the kind says what white is."
    for i, values in enumerate(((DEEP*6000).astype('<u2'), (DEEP*.1).astype('<f4'), (DEEP*25).astype('<f4'))):
        Image.fromarray(values).save(tmp_path/f'{i}.tiff')
        assert 20 < grey(tmp_path/f'{i}.tiff').max() <= 26
    Image.fromarray((DEEP*200).astype('<i4')).save(tmp_path/'dark.ppm') # 16 bits, as that format has
    assert grey(tmp_path/'dark.ppm').max() == 1

@pytest.mark.parametrize('white', (1, 255))
def test_floats_a_little_beyond_their_scale(white, tmp_path):
    "One pixel had made the whole image black, or stretched it."
    for i, (low, high) in enumerate(((0, 1.0000001), (0, 1.005), (-1e-6, 1), (-.002, 1.002))):
        values = (DEEP*.2*white).astype('<f4')
        values[0, 0], values[0, 1] = low*white, high*white
        Image.fromarray(values).save(tmp_path/f'{i}.tiff')
        seen = grey(tmp_path/f'{i}.tiff')
        assert seen[0, 0] == 0 and seen[0, 1] == 255 and np.abs(seen - DEEP*51).flatten()[2:].max() <= 1

def test_deep_greys_are_rounded(tmp_path):
    values = np.random.default_rng(0).integers(0, 65536, (SIZE, SIZE)).astype('<u2')
    Image.fromarray(values).save(tmp_path/'a.png')
    assert (grey(tmp_path/'a.png') == np.floor(values/257 + .5)).all()

def test_floats_that_are_no_numbers(tmp_path):
    values = DEEP.astype('<f4').copy()
    values[0, :3] = np.nan, np.inf, -np.inf
    Image.fromarray(values).save(tmp_path/'f.tiff')
    seen = grey(tmp_path/'f.tiff')
    assert seen[0, :3].tolist() == [0, 0, 0] and np.abs(seen - DEEP*255)[1:].max() <= 1

@pytest.mark.parametrize('values,white', [(np.full((SIZE, SIZE), 3, '<u2'), 0), (np.full((SIZE, SIZE), 1., '<f4'), 255), (np.full((SIZE, SIZE), -7., '<f4'), 0),
                                          (np.full((SIZE, SIZE), 65535, '<u2'), 255), (np.full((SIZE, SIZE), np.nan, '<f4'), 0)], ids=str)
def test_one_grey(values, white, tmp_path):
    Image.fromarray(values).save(tmp_path/'plain.tiff')
    assert np.unique(grey(tmp_path/'plain.tiff')).tolist() == [white]

@pytest.mark.parametrize('depth,stored', [(16, (DEEP*65535).round().astype('<u2')), (32, DEEP.astype('<f4'))], ids=str)
def test_a_tiff_whose_zero_is_white(depth, stored, tmp_path):
    path = tmp_path/'i.tiff'
    Image.fromarray(stored).save(path, tiffinfo={262: 0})
    with Image.open(path) as image: assert image.tag_v2[262] == 0
    assert np.abs(grey(path) - (1 - DEEP)*255).max() <= 1

def unsigned_tiff(path, values): # (h w) of 32 bits, which Pillow cannot write
    h, w = values.shape
    tags = {256: w, 257: h, 258: 32, 259: 1, 262: 1, 273: 8, 277: 1, 278: h, 279: 4*h*w, 339: 1}
    entries = b''.join(struct.pack('<HHII', tag, 4 if tag in (273, 279) else 3, 1, value) for tag, value in tags.items())
    path.write_bytes(struct.pack('<2sHI', b'II', 42, 8 + 4*h*w) + values.astype('<u4').tobytes() + struct.pack('<H', len(tags)) + entries + bytes(4))

@pytest.mark.parametrize('top', (2**32 - 1, 3*10**9, 2**31, 255), ids=str)
def test_whole_numbers_without_a_sign(top, tmp_path):
    "Greys from the middle on had become black."
    unsigned_tiff(tmp_path/'u.tiff', (DEEP*top).round())
    assert np.abs(grey(tmp_path/'u.tiff') - DEEP*255).max() <= 1

@pytest.mark.parametrize('stored,lowest', [('-9999', -9999), ('-3.4028234663852886e+38', np.finfo('<f4').min), ('nan', np.nan), ('nothing', 0)], ids=str)
def test_what_geographers_write_for_no_number(stored, lowest, tmp_path):
    "One such pixel had made all others white."
    values = DEEP.astype('<f4').copy()
    values[0, :3] = lowest
    Image.fromarray(values).save(tmp_path/'d.tiff', tiffinfo={42113: stored})
    seen = grey(tmp_path/'d.tiff')
    assert seen[0, :3].tolist() == [0, 0, 0] and np.abs(seen - DEEP*255)[1:].max() <= 1

@pytest.mark.parametrize('fmt', ['JPEG', 'PNG', 'WEBP', 'TIFF'])
@pytest.mark.parametrize('tag', range(1, 9))
def test_cameras_orientation(fmt, tag, tmp_path):
    upright = np.full((16, 24, 3), 200, np.uint8)
    upright[:8, :12], upright[8:, 12:] = (250, 20, 20), (20, 20, 250) # red above left, blue below right
    stored = {1: upright, 2: upright[:, ::-1], 3: upright[::-1, ::-1], 4: upright[::-1], 5: upright.transpose(1, 0, 2),
              6: np.rot90(upright, 1), 7: upright[::-1, ::-1].transpose(1, 0, 2), 8: np.rot90(upright, -1)}[tag]
    exif = Image.Exif()
    exif[274] = tag
    path = tmp_path/f'turned.{fmt}'
    Image.fromarray(np.ascontiguousarray(stored)).save(path, fmt, exif=exif, **({'quality': 95} if fmt in ('JPEG', 'WEBP') else {}))
    seen = read(path, 16)
    assert seen[2, 2, 0] > 200 > seen[2, 2, 2] + 100 and seen[13, 13, 2] > 200 > seen[13, 13, 0] + 100
    with Image.open(path) as image: own = np.array(ImageOps.fit(ImageOps.exif_transpose(image), (16, 16), Image.Resampling.BILINEAR))
    assert (seen == own).all()

@pytest.mark.parametrize('exif', [b'Exif\0\0', b'Exif\0\0II*\0\xff\xff\xff\xff', b'Exif\0\0MM\0*' + bytes(range(60)), b'junk'*20], ids=str)
def test_damaged_tags_change_nothing(exif, tmp_path):
    image = Image.fromarray(noise(3))
    image.save(tmp_path/'plain.jpg'); image.save(tmp_path/'tags.jpg', exif=exif)
    assert (read(tmp_path/'tags.jpg') == read(tmp_path/'plain.jpg')).all()

def test_tags_that_pillow_cannot_read(tmp_path, monkeypatch):
    def damaged_tags(self): raise SyntaxError('not a TIFF file')
    Image.fromarray(noise(3)).save(tmp_path/'a.png')
    monkeypatch.setattr(Image.Image, 'getexif', damaged_tags)
    assert (read(tmp_path/'a.png') == noise(3)).all()

@pytest.mark.parametrize('tag', [0, 9, 255])
def test_orientations_that_do_not_exist(tag, tmp_path):
    exif = Image.Exif()
    exif[274] = tag
    Image.fromarray(noise(3)).save(tmp_path/'a.png', exif=exif)
    assert (read(tmp_path/'a.png') == noise(3)).all()

@pytest.mark.parametrize('mode,key', [('1', 0), ('L', 7), ('RGB', (1, 2, 3)), ('P', 3), ('P', bytes([255, 128, 0, 255])), ('I;16', 500)], ids=str)
def test_a_transparent_colour_of_a_png(mode, key, tmp_path):
    path = tmp_path/'key.png'
    if mode == 'I;16': image = Image.fromarray(np.where(noise(top=2) > 0, 500, 30000).astype('<u2'))
    elif mode == 'RGB': image = Image.fromarray(np.where(noise(1, top=2) > 0, (1, 2, 3), (90, 80, 70)).astype(np.uint8))
    elif mode == 'P': image = Image.fromarray(noise(top=4)).copy(); image.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90, 100, 110, 120])
    else: image = Image.fromarray(noise(top=2)*np.uint8(255 if mode == '1' else 7)).convert(mode)
    image.save(path, transparency=key)
    seen = read(path)
    if mode == 'I;16': assert sorted(np.unique(seen)) == [117, 255]
    else: assert np.abs(seen - by_pillow(path)).max() <= 1
    assert (seen == 255).all(2).any()

def test_shapes_in_the_opacity_alone(tmp_path):
    "What used to be 120 black images: black ink whose shape is in the alpha channel."
    for i, fmt in enumerate(('PNG', 'WEBP', 'TIFF', 'GIF')):
        ink = np.zeros((SIZE, SIZE, 4), np.uint8)
        ink[3:6, 2:8, 3] = 255
        Image.fromarray(ink).save(tmp_path/f'{i}', fmt, **({'lossless': True, 'exact': True} if fmt == 'WEBP' else {}))
        seen = grey(tmp_path/f'{i}')
        assert (seen[3:6, 2:8] < 5).all() and seen.sum()/255 > SIZE*SIZE - 18.5

@pytest.mark.parametrize('fmt,options', [('GIF', {}), ('TIFF', {}), ('PNG', {}), ('WEBP', {'lossless': True})], ids=str)
def test_the_first_picture_of_several(fmt, options, tmp_path):
    first, second = Image.new('RGB', (SIZE, SIZE), (200, 0, 0)), Image.new('RGB', (SIZE, SIZE), (0, 0, 200))
    first.save(tmp_path/'film', fmt, save_all=True, append_images=[second], **options)
    with Image.open(tmp_path/'film') as image: assert image.n_frames == 2
    assert (read(tmp_path/'film') == [200, 0, 0]).all()

@pytest.mark.parametrize('shape', [(1, 1), (1, 40), (40, 1), (3, 1000), (2000, 2)], ids=str)
def test_odd_shapes(shape, tmp_path):
    Image.new('RGB', shape, (9, 99, 199)).save(tmp_path/'odd.png')
    assert (read(tmp_path/'odd.png') == [9, 99, 199]).all()

def test_every_ending_that_pillow_opens(tmp_path):
    Image.init()
    known = {e: f for e, f in Image.registered_extensions().items() if f in Image.OPEN}
    made = []
    for i, (ending, fmt) in enumerate(known.items()):
        name = f'{i}{ending.upper() if i % 2 else ending}'
        (tmp_path/'train'/'ab'[i % 2]).mkdir(parents=True, exist_ok=True)
        if save(Image.fromarray(noise(3)), path := tmp_path/'train'/'ab'[i % 2]/name, fmt): made.append(str(path))
        else: path.unlink(missing_ok=True)
    assert {'.jfif', '.gif', '.avif', '.webp', '.jpg'} <= {os.path.splitext(p)[1].lower() for p in made}
    both = [p for part in ('train', 'test') for p in ImageFiles(part, tmp_path).paths]
    assert sorted(both) == sorted(made)
    assert sum(len(load_dataset('imagefolder', part, tmp_path, image_size=8)) for part in ('train', 'test')) == len(made)

# what is left out

def fill(folder, n=4, **options):
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(n): Image.new('RGB', (9, 9), (20*i, 40, 60)).save(folder/f'{i}.png', **options)

def parts(root):
    for part in ('train', 'test'):
        for c in 'ab': fill(root/part/c)

def names(root, part='train'): return sorted(os.path.relpath(p, root/part) for p in ImageFiles(part, root).paths)

PLAIN = [f'{c}/{i}.png' for c in 'ab' for i in range(4)]

def said(capsys, root):
    "What loading both parts prints; each line once."
    tell.cache_clear()
    for part in ('train', 'test'): load_dataset('imagefolder', part, root, image_size=8)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == len(set(lines)) and all(l.startswith('unremix: ') for l in lines)
    return lines

def test_a_plain_folder_says_nothing(tmp_path, capsys):
    parts(tmp_path)
    assert names(tmp_path) == PLAIN and said(capsys, tmp_path) == []

@pytest.mark.parametrize('name', ['.hidden/x.png', '.ipynb_checkpoints/x.png', '__MACOSX/x.png', 'a/.ipynb_checkpoints/0-checkpoint.png', 'a/._0.png',
                                  'a/.DS_Store', 'Thumbs.db', 'a/Thumbs.db', 'a/desktop.ini', '@eaDir/x.png'])
def test_hidden_names_are_neither_classes_nor_images(name, tmp_path, capsys):
    parts(tmp_path)
    path = tmp_path/'train'/name
    path.parent.mkdir(exist_ok=True)
    Image.new('L', (9, 9)).save(path, 'PNG')
    folder = ImageFiles('train', tmp_path)
    assert names(tmp_path) == PLAIN and folder.classes == ['a', 'b']
    [line] = said(capsys, tmp_path)
    assert '1 hidden' in line and name.split('/')[0] in line

@pytest.mark.parametrize('name,content', [('notes.txt', b'hello'), ('labels.csv', b'0,1'), ('no ending', b'\xff\xd8\xff'), ('film.mp4', b'0'), ('a.png.part', b'0')])
def test_other_files_are_counted_and_named(name, content, tmp_path, capsys):
    parts(tmp_path)
    (tmp_path/'train'/'a'/name).write_bytes(content)
    assert names(tmp_path) == PLAIN
    assert said(capsys, tmp_path) == [f'unremix: left out of {tmp_path}/train: 1 no image (a/{name})']

def damaged(kind):
    buffer = io.BytesIO()
    Image.fromarray(noise(3)).resize((90, 90)).save(buffer, 'JPEG' if 'jpg' in kind else 'PNG')
    whole = buffer.getvalue()
    return {'empty.png': b'', 'text.png': b'no image', 'half.png': whole[:len(whole)//2], 'half.jpg': whole[:len(whole)//2], 'head.png': whole[:8], 'zeros.jpg': bytes(500),
            'film.mpg': b'\0\0\1\xb3' + bytes(20), 'page.html.jpg': b'<html>404</html>'}[kind]

@pytest.mark.parametrize('kind', ['empty.png', 'text.png', 'half.png', 'half.jpg', 'head.png', 'zeros.jpg', 'film.mpg', 'page.html.jpg'])
@pytest.mark.parametrize('part', ['train', 'test'])
def test_damaged_files_are_counted_and_named(kind, part, tmp_path, capsys):
    parts(tmp_path)
    (tmp_path/part/'b'/kind).write_bytes(damaged(kind))
    assert said(capsys, tmp_path) == [f'unremix: left out of {tmp_path}/{part}: 1 damaged (b/{kind})']
    images = load_dataset('imagefolder', part, tmp_path, image_size=8)
    assert images.y.tolist() == [0]*4 + [1]*4
    with pytest.raises(DatasetMissing, match='cannot be read as an image .*: repair or remove it'): read_square(tmp_path/part/'b'/kind, 8)

def test_the_next_in_line_take_the_place_of_damaged_files(tmp_path):
    parts(tmp_path)
    for i in (0, 2): (tmp_path/'train'/'a'/f'{i}.png').write_bytes(b'')
    images = load_dataset('imagefolder', 'train', tmp_path, limit=4, image_size=8)
    assert images.y.tolist() == [1, 0, 1, 1]
    assert len(load_dataset('imagefolder', 'train', tmp_path, limit=100, image_size=8)) == 6

def test_the_pixels_stay_with_their_labels(tmp_path):
    "Gaps of damaged files are closed: every image keeps its class."
    for part in ('train', 'test'):
        for c, shade in zip('abc', (10, 120, 230)):
            (tmp_path/part/c).mkdir(parents=True)
            for i in range(5): Image.new('L', (9, 9), shade).save(tmp_path/part/c/f'{i}.png')
    for name in ('a/0.png', 'b/3.png', 'b/4.png', 'c/1.png'): (tmp_path/'train'/name).write_bytes(b'')
    for limit in (None, 9):
        images = load_dataset('imagefolder', 'train', tmp_path, limit=limit, image_size=8)
        assert images.x[:, 0, 0, 0].tolist() == [(10, 120, 230)[c] for c in images.y] and len(images) == (limit or 11)

def test_bombs_are_left_out(tmp_path, monkeypatch, capsys):
    parts(tmp_path)
    Image.new('L', (60, 60)).save(tmp_path/'train'/'a'/'bomb.png')
    monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', 1000)
    assert said(capsys, tmp_path) == [f'unremix: left out of {tmp_path}/train: 1 damaged (a/bomb.png)']

def test_no_memory_is_not_a_damaged_file(tmp_path, monkeypatch):
    parts(tmp_path)
    def full(*args): raise MemoryError
    monkeypatch.setattr(ImageOps, 'fit', full)
    with pytest.raises(MemoryError): load_dataset('imagefolder', 'train', tmp_path)

def test_many_names_stay_on_one_line(tmp_path, capsys):
    parts(tmp_path)
    for i in range(30): (tmp_path/'train'/'a'/f'{i:02}.txt').write_text('')
    (tmp_path/'train'/'b'/'line\nbreak.png').write_bytes(b'')
    assert said(capsys, tmp_path) == [f'unremix: left out of {tmp_path}/train: 30 no image (a/00.txt, a/01.txt, a/02.txt, a/03.txt, a/04.txt, …)',
                                      f"unremix: left out of {tmp_path}/train: 1 damaged ('b/line\\nbreak.png')"]

def test_names_of_any_kind(tmp_path):
    for part in ('train', 'test'):
        for c in ('größe', 'two words', 'ネコ', '-dash', 'a\'quote', 'dot.ted', '100 %'): fill(tmp_path/part/c)
    folder = ImageFiles('train', tmp_path)
    assert folder.classes == sorted(('größe', 'two words', 'ネコ', '-dash', 'a\'quote', 'dot.ted', '100 %'))
    assert len(load_dataset('imagefolder', 'test', tmp_path, image_size=8)) == 28

def link(path, target):
    path.symlink_to(target, target_is_directory=target.is_dir())

@pytest.mark.parametrize('where,target', [('a/up', '..'), ('loop', '.'), ('a/self', '.'), ('again', 'a'), ('b/0', '../a'), ('Z', '../train'), ('a/9.png', '0.png'), ('0.png', 'b/1.png')])
def test_a_real_file_counts_once(where, target, tmp_path, capsys):
    "Loops, folders linked twice, files linked twice."
    parts(tmp_path)
    path = tmp_path/'train'/where
    path.symlink_to(target)
    assert names(tmp_path) == PLAIN
    assert said(capsys, tmp_path)[0] == f'unremix: left out of {tmp_path}/train: 1 linked twice ({where})'

def test_links_to_elsewhere_are_followed(tmp_path):
    parts(tmp_path)
    fill(tmp_path/'pool'/'c'); fill(tmp_path/'one', 1)
    (tmp_path/'train'/'c').symlink_to(tmp_path/'pool'/'c')
    (tmp_path/'train'/'a'/'4.png').symlink_to(tmp_path/'one'/'0.png')
    folder = ImageFiles('train', tmp_path)
    assert folder.classes == ['a', 'b', 'c'] and folder.y.bincount().tolist() == [5, 4, 4]

def test_links_to_nothing_are_named(tmp_path, capsys):
    parts(tmp_path)
    (tmp_path/'train'/'a'/'gone.png').symlink_to(tmp_path/'nowhere.png')
    (tmp_path/'train'/'c').symlink_to('c')
    assert names(tmp_path) == PLAIN
    assert said(capsys, tmp_path) == [f'unremix: left out of {tmp_path}/train: 2 link to nothing (a/gone.png, c)']

@pytest.mark.skipif(not hasattr(os, 'mkfifo'), reason='no named pipes here')
def test_a_pipe_does_not_wait(tmp_path):
    parts(tmp_path)
    os.mkfifo(tmp_path/'train'/'a'/'pipe.png')
    assert names(tmp_path) == PLAIN

def test_any_bytes(tmp_path, capsys):
    "Files with changed bytes: each is read or left out by name, and nothing else happens."
    draw = random.Random(0)
    parts(tmp_path)
    for i in range(150):
        fmt = draw.choice(('PNG', 'JPEG', 'GIF', 'TIFF', 'BMP', 'WEBP', 'TGA', 'PPM', 'ICO', 'SGI', 'PCX', 'QOI'))
        buffer = io.BytesIO()
        Image.fromarray(noise(3)).save(buffer, fmt)
        whole = bytearray(buffer.getvalue())
        for _ in range(draw.randint(1, 12)): whole[draw.randrange(min(len(whole), draw.choice((30, 10**6))))] = draw.randrange(256)
        (tmp_path/'train'/'ab'[i % 2]/f'f{i:03}.{fmt}').write_bytes(whole[:draw.choice((None, draw.randrange(len(whole)))) ])
    for path in (tmp_path/'train').rglob('f*.PPM'): path.rename(path.with_suffix('.ppm'))
    folder = ImageFiles('train', tmp_path, 8)
    bad = [p for p in folder.paths if isinstance(tried(p), DatasetMissing)]
    lines = said(capsys, tmp_path)
    listed = len(folder) + sum(len(n) for n in folder.part.skipped.values())
    assert listed == 158 and 10 < len(bad) < 150
    assert any(f'{len(bad)} damaged (' in l for l in lines)
    assert len(load_dataset('imagefolder', 'train', tmp_path, image_size=8)) == len(folder) - len(bad)

def tried(path):
    try: return read_square(path, 8)
    except DatasetMissing as e: return e
