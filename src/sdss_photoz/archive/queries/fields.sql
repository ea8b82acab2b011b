-- Where each field lies: great circle (node, incl) and the terms of mu = a + b row + c col, nu = d + e row + f col
-- (degrees), from Frame for the r band and from Field for each band (single precision); and its
-- seeing (psfWidth, arcsec) and sky (nanomaggies per square arcsec), which the quality tables of the cubes give.
SELECT fr.fieldID, fr.run, fr.camcol, fr.field, fr.stripe, fr.strip, fr.node, fr.incl,
  fr.a, fr.b, fr.c, fr.d, fr.e, fr.f,
  fi.a_u, fi.a_g, fi.a_r, fi.a_i, fi.a_z,
  fi.b_u, fi.b_g, fi.b_r, fi.b_i, fi.b_z,
  fi.c_u, fi.c_g, fi.c_r, fi.c_i, fi.c_z,
  fi.d_u, fi.d_g, fi.d_r, fi.d_i, fi.d_z,
  fi.e_u, fi.e_g, fi.e_r, fi.e_i, fi.e_z,
  fi.f_u, fi.f_g, fi.f_r, fi.f_i, fi.f_z,
  fi.ra, fi.dec, fi.raMin, fi.raMax, fi.decMin, fi.decMax, fi.quality, fi.mjd_r,
  fi.psfWidth_u, fi.psfWidth_g, fi.psfWidth_r, fi.psfWidth_i, fi.psfWidth_z,
  fi.sky_u, fi.sky_g, fi.sky_r, fi.sky_i, fi.sky_z
INTO mydb.sdss_photoz_fields
FROM Frame fr
  JOIN Field fi ON (fi.fieldID = fr.fieldID)
WHERE fr.zoom = 0 AND fr.rerun = 301
